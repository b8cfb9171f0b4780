"""YAML files, ``key=value`` overrides and stored configurations, parsed into the dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from lfm_policy.config.schema import CHOICES, ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.registry import nearest_names

INCLUDE = "include"
MAXIMUM_DEPTH = 16


@dataclasses.dataclass(frozen=True)
class Source:
    """Options from one place, and how to call that place in a message."""

    label: str
    options: dict[str, Any]


def bundled_config_names() -> list[str]:
    """Return the names of the experiments that come with the package, such as ``pusht/fm``."""
    root = resources.files("lfm_policy.configs")
    names = []
    for folder in root.iterdir():
        if folder.is_dir() and folder.name not in ("shared", "__pycache__"):
            names += [
                f"{folder.name}/{entry.name.removesuffix('.yaml')}"
                for entry in folder.iterdir()
                if entry.name.endswith(".yaml")
            ]
    return sorted(names)


def find_config(name: str) -> Path:
    """Return the file of a configuration given by path or by bundled name.

    Raises:
        InputError: there is neither such a file nor such a bundled configuration.
    """
    path = Path(name)
    if path.is_file():
        return path
    bundled = Path(str(resources.files("lfm_policy.configs"))) / f"{name}.yaml"
    if name in bundled_config_names() and bundled.is_file():
        return bundled
    hint = nearest_names(name, bundled_config_names())
    raise InputError(
        f"no configuration '{name}': neither a file nor one of the bundled ones ({hint})"
    )


def load_config(name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read a configuration file, apply ``key=value`` overrides and check everything.

    A file may name others under ``include`` (paths relative to itself); they are read first, in
    order, and the file's own keys win.

    Args:
        name: path of a YAML file, or a bundled name such as ``pusht/fm``.
        overrides: strings ``section.key=value``; values are parsed as YAML.

    Raises:
        InputError: unknown file, unknown key (with the nearest valid names), wrong type or value
            out of bounds; the message names the key and the file or override it came from.
    """
    sources = _read_file(find_config(name), depth=0)
    sources += [_parse_override(text) for text in overrides]
    return config_from_sources(sources)


def config_from_dict(options: Mapping[str, Any], label: str) -> ExperimentConfig:
    """Build a checked configuration from plain options, such as those stored in a checkpoint.

    Raises:
        InputError: as `load_config`; ``label`` stands for the file in messages.
    """
    return config_from_sources([Source(label, dict(options))])


def config_to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """Return all options as plain dictionaries, lists, strings and numbers."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_to_yaml(config: ExperimentConfig) -> str:
    """Return all options as YAML."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False)


def config_from_sources(sources: Sequence[Source]) -> ExperimentConfig:
    """Merge sources, later ones winning, into a checked configuration."""
    sources = [Source(s.label, _without_interpolation(s.options, s.label)) for s in sources]
    schema: Any
    schema, sources = _choose_sections(sources)
    for source in sources:
        try:
            schema = OmegaConf.merge(schema, source.options)
        except OmegaConfBaseException as error:
            raise InputError(_merge_message(error, schema, source)) from None
    try:
        config = OmegaConf.to_object(schema)
        assert isinstance(config, ExperimentConfig)
        config.validate()
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{_origin(reason, sources)}: {reason}") from None
    return config


def _origin(reason: str, sources: Sequence[Source]) -> str:
    """Return the label of the last source that sets the key with which a message begins."""
    words = reason.split()
    key = words[0].split("[")[0] if words else ""
    for source in reversed(sources):
        if OmegaConf.select(OmegaConf.create(source.options), key) is not None:
            return source.label
    return ", ".join(dict.fromkeys(source.label for source in sources)) or "defaults"


def _read_file(path: Path, depth: int) -> list[Source]:
    if depth > MAXIMUM_DEPTH:
        raise InputError(f"{path}: files include one another more than {MAXIMUM_DEPTH} deep")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise InputError(f"{path}: expected keys and values, found a {type(options).__name__}")
    included = options.pop(INCLUDE, [])
    if isinstance(included, str):
        included = [included]
    if not isinstance(included, list):
        raise InputError(f"{path}: include: expected a list of files, found {included!r}")
    sources: list[Source] = []
    for entry in included:
        target = path.parent / str(entry)
        if not target.is_file():
            raise InputError(f"{path}: include: there is no file '{entry}' beside it ({target})")
        sources += _read_file(target, depth + 1)
    return [*sources, Source(str(path), options)]


def _parse_override(text: str) -> Source:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise InputError(f"override '{text}': expected key=value, such as training.total_steps=100")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override '{text}': the value is not valid YAML: {error}") from None
    if isinstance(parsed, str):
        parsed = _number_from(parsed)
    options: Any = parsed
    for part in reversed(key.strip().split(".")):
        options = {part: options}
    return Source(f"override '{text}'", options)


def _number_from(text: str) -> Any:
    """YAML 1.1 reads ``1e-3`` as text; people mean a number."""
    try:
        return float(text)
    except ValueError:
        return text


def _without_interpolation(value: Any, label: str, key: str = "") -> Any:
    """Refuse OmegaConf's ``${...}``, which could read the environment of whoever loads a file."""
    if isinstance(value, dict):
        return {
            str(k): _without_interpolation(v, label, f"{key}.{k}" if key else str(k))
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_without_interpolation(v, label, key) for v in value]
    if isinstance(value, str) and "${" in value:
        raise InputError(f"{label}: {key}: '{value}' contains '${{', which is not supported")
    return value


def _choose_sections(sources: list[Source]) -> tuple[DictConfig, list[Source]]:
    """Put the options class chosen by each ``name`` into the schema.

    A source that changes the name starts that section afresh: options of the network chosen
    before mean nothing to the one chosen now.
    """
    schema = OmegaConf.structured(ExperimentConfig)
    options = [dict(source.options) for source in sources]
    for section, registry in CHOICES.items():
        name, since = schema[section].name, 0
        for position, given in enumerate(options):
            part = given.get(section)
            if isinstance(part, dict) and "name" in part and part["name"] != name:
                name, since = part["name"], position
        try:
            schema[section] = OmegaConf.structured(registry.get(str(name)))
        except InputError as error:
            raise InputError(f"{sources[since].label}: {section}.name: {error}") from None
        for position in range(since):
            if isinstance(options[position].get(section), dict):
                options[position].pop(section)
    return schema, [Source(s.label, o) for s, o in zip(sources, options, strict=True)]


def _merge_message(error: OmegaConfBaseException, schema: DictConfig, source: Source) -> str:
    for section, value in source.options.items():
        is_section = section in schema and isinstance(schema[section], DictConfig)
        if is_section and not isinstance(value, dict):
            return f"{source.label}: {section}: found {value!r}, expected keys and values"
    key = str(getattr(error, "full_key", "") or "")
    if isinstance(error, ConfigKeyError) or "not in" in str(error).splitlines()[0]:
        parent, _, last = key.rpartition(".")
        node = OmegaConf.select(schema, parent) if parent else schema
        known = [str(k) for k in node] if isinstance(node, DictConfig) else []
        where = f" of '{parent}'" if parent else ""
        return f"{source.label}: unknown key '{key}'{where}: {nearest_names(last, known)}"
    found = OmegaConf.select(OmegaConf.create(source.options), key) if key else None
    expected = _expected_type(schema, key)
    reason = str(error).splitlines()[0]
    return f"{source.label}: {key}: found {found!r}, expected {expected} ({reason})"


def _expected_type(schema: DictConfig, key: str) -> str:
    """Return the declared type of an option, as written in its dataclass."""
    parent, _, last = key.rpartition(".")
    node: Any = OmegaConf.select(schema, parent) if parent else schema
    declared = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    if declared is not None and dataclasses.is_dataclass(declared):
        for field in dataclasses.fields(declared):
            if field.name == last.split("[")[0]:
                return str(field.type)
    return "another type"
