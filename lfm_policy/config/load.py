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
from omegaconf.errors import OmegaConfBaseException

from lfm_policy.config.block_networks import network_configs, student_network
from lfm_policy.config.changes import with_changes
from lfm_policy.config.schema import CHOICES, ExperimentConfig
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import is_file
from lfm_runtime.disk.plain import plain_options
from lfm_runtime.registry import nearest_names

INCLUDE = "include"
MAXIMUM_INCLUDES = 16
MAXIMUM_FILE_BYTES = 1_000_000

RENAMED = {"flow": {"prediction": "method"}}
"""Old and new names of options by section, for configurations and checkpoints of before."""


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
    if is_file(path):
        return path
    bundled = Path(str(resources.files("lfm_policy.configs"))) / f"{name}.yaml"
    if name in bundled_config_names() and bundled.is_file():
        return bundled
    hint = nearest_names(name[:100], bundled_config_names())
    raise InputError(
        f"no configuration '{name[:1000]}': neither a file nor one of the bundled ones ({hint})"
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
    sources += [parse_override(text) for text in overrides]
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
    sources = [
        Source(s.label, _with_present_names(plain_options(s.options, s.label), s.label))
        for s in sources
    ]
    for source in sources:
        _refuse_special_text(source.options, source.label)
    schema, sources = _choose_sections(sources)
    for source in sources:
        _check_keys(source.options, schema, source.label)
        try:
            schema.merge_with(source.options)
        except OmegaConfBaseException as error:
            raise InputError(_type_message(error, schema, source)) from None
    try:
        config = OmegaConf.to_object(schema)
        assert isinstance(config, ExperimentConfig)
        config.validate()
        network_configs(config)
        student_network(config)
        with_changes(config.training, config.distill.training, "distill.training")
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        reason = _with_section((str(error).splitlines() or [type(error).__name__])[0], schema)
        raise InputError(f"{_origin(reason, sources)}: {reason[:1000]}") from None
    return config


def _with_present_names(options: dict[str, Any], label: str) -> dict[str, Any]:
    """Return options with the names of today, which files and checkpoints may not know."""
    for section, names in RENAMED.items():
        given = options.get(section)
        if not isinstance(given, dict):
            continue
        for old, new in names.items():
            if old in given and new in given:
                raise InputError(
                    f"{label}: {section}.{old} is the old name of {section}.{new}: give only that"
                )
            if old in given:
                given = {new if key == old else key: value for key, value in given.items()}
        options = {**options, section: given}
    return options


def _with_section(reason: str, schema: DictConfig) -> str:
    """Return a message of a chosen options class with the key as people write it.

    The classes beside the networks, encoders and dataset formats do not know in which section
    they are used: ``MLPConfig.width is 0`` becomes ``network.width is 0``.
    """
    for section in CHOICES:
        declared = OmegaConf.get_type(schema[section])
        assert declared is not None and dataclasses.is_dataclass(declared)
        if reason.startswith(f"{declared.__name__}."):
            return section + reason.removeprefix(declared.__name__)
        # The inherited `name` is also the name of the experiment.
        own = {field.name for field in dataclasses.fields(declared)} - {"name"}
        if reason.split(" ", 1)[0] in own:
            return f"{section}.{reason}"
    return reason


def _origin(reason: str, sources: Sequence[Source]) -> str:
    """Return the label of the last source that sets the key with which a message begins."""
    key = reason.split(" ", 1)[0].split("[")[0]
    for source in reversed(sources):
        if _lookup(source.options, key) is not None:
            return source.label
    return ", ".join(dict.fromkeys(source.label for source in sources)) or "defaults"


def _lookup(options: Any, key: str) -> Any:
    for part in key.split("."):
        options = options.get(part) if isinstance(options, dict) else None
    return options


def _read_file(path: Path, depth: int) -> list[Source]:
    if depth > MAXIMUM_INCLUDES:
        raise InputError(f"{path}: files include one another more than {MAXIMUM_INCLUDES} deep")
    options = _parse_yaml(_read_text(path), str(path))
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise InputError(f"{path}: expected keys and values, found a {type(options).__name__}")
    included = options.pop(INCLUDE, None) or []
    if isinstance(included, str):
        included = [included]
    if not isinstance(included, list):
        raise InputError(f"{path}: include: expected a list of files, found {repr(included)[:200]}")
    sources: list[Source] = []
    for entry in included:
        target = path.parent / str(entry)
        if not is_file(target):
            raise InputError(f"{path}: include: there is no file '{entry}' beside it ({target})")
        sources += _read_file(target, depth + 1)
    return [*sources, Source(str(path), options)]


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_FILE_BYTES + 1)
        if len(content) > MAXIMUM_FILE_BYTES:
            raise InputError(
                f"{path}: is larger than {MAXIMUM_FILE_BYTES:,} bytes: no configuration"
            )
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None


def _parse_yaml(text: str, label: str) -> Any:
    try:
        return yaml.safe_load(text)
    # ValueError: a date such as 2024-13-45 or a number of thousands of digits.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{label}: not valid YAML: {str(error)[:500]}") from None


def parse_override(text: str) -> Source:
    """Return what an override ``section.key=value`` sets; the value is parsed as YAML.

    Raises:
        InputError: there is no ``=``, or the value is not valid YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise InputError(
            f"override '{text[:200]}': expected key=value, such as training.total_steps=100"
        )
    label = f"override '{text[:200]}'"
    options = _parse_yaml(value, label)
    for part in reversed(key.strip().split(".")):
        options = {part: options}
    return Source(label, options)


def _refuse_special_text(value: Any, label: str, key: str = "") -> None:
    """Refuse text that OmegaConf would not take literally.

    ``${...}`` could read the environment of whoever loads a file; ``???`` stands for no value.
    """
    if isinstance(value, dict):
        for name, part in value.items():
            _refuse_special_text(part, label, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for part in value:
            _refuse_special_text(part, label, key)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        special = "${" if "${" in value else "???"
        raise InputError(f"{label}: {key}: '{value[:200]}': '{special}' is not supported")


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
            chosen = registry.get(str(name))
        except InputError as error:
            raise InputError(f"{sources[since].label}: {section}.name: {error}") from None
        if OmegaConf.get_type(schema[section]) is not chosen:
            schema[section] = OmegaConf.structured(chosen)
        for position in range(since):
            if isinstance(options[position].get(section), dict):
                options[position].pop(section)
    return schema, [Source(s.label, o) for s, o in zip(sources, options, strict=True)]


def _check_keys(options: dict[str, Any], schema: DictConfig, label: str, parent: str = "") -> None:
    """Check that every key is known and that sections hold keys and values.

    Raises:
        InputError: with the nearest known names.
    """
    known = [str(name) for name in schema]
    for name, value in options.items():
        key = f"{parent}.{name}" if parent else name
        if name not in known:
            where = f" of '{parent}'" if parent else ""
            hint = nearest_names(name[:100], known)
            raise InputError(f"{label}: unknown key '{key[:200]}'{where}: {hint}")
        section = schema[name]
        free = isinstance(section, DictConfig) and OmegaConf.get_type(section) is dict
        if free and not isinstance(value, dict):
            raise InputError(
                f"{label}: {key}: found {repr(value)[:200]}, expected keys and values in braces, "
                "such as {a: b}"
            )
        if isinstance(section, DictConfig) and not free:
            if not isinstance(value, dict):
                raise InputError(
                    f"{label}: {key}: found {repr(value)[:200]}, expected keys and values: "
                    f"{', '.join(str(k) for k in section)}"
                )
            _check_keys(value, section, label, key)


def _type_message(error: OmegaConfBaseException, schema: DictConfig, source: Source) -> str:
    key = str(getattr(error, "full_key", "") or "") or _failing_section(schema, source)
    found = repr(_lookup(source.options, key.split("[")[0]))[:200]
    reason = str(error).splitlines()[0][:300]
    expected = _expected_type(schema, key)
    return f"{source.label}: {key}: found {found}, expected {expected} ({reason})"


def _failing_section(schema: DictConfig, source: Source) -> str:
    """Return the top-level key whose value does not merge; OmegaConf does not always say."""
    for key, value in source.options.items():
        try:
            OmegaConf.merge(schema, {key: value})
        except OmegaConfBaseException:
            return key
    return ""


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
