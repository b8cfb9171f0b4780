"""YAML files, ``key=value`` overrides and stored configurations, parsed into the dataclasses."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from lfm_policy.config.distillation import STUDENT_TRAINING
from lfm_policy.config.sampler import SamplerConfig
from lfm_policy.config.schema import SECTIONS, ExperimentConfig
from lfm_policy.config.yaml_files import parse_yaml, read_yaml
from lfm_policy.errors import InputError, Key, OptionError
from lfm_policy.options import checked
from lfm_runtime.disk.files import exists, is_file
from lfm_runtime.disk.plain import plain_options
from lfm_runtime.registry import nearest_names

INCLUDE = "include"
YAML_SUFFIXES = (".yaml", ".yml")
MAXIMUM_INCLUDES = 16
BEFORE: dict[str, Any] = {
    "sampler": {"noise_scale": 1.0},
    "training": {
        "obs_noise": 0.0,
        "encoder": "block1",
        "encoder_steps": 0,
        "encoder_batch_size": 0,
    },
    "distill": {
        "samples": 4,
        "inputs": "teacher",
        "tail_weight": 1.0,
        "teacher_solver": "midpoint",
        "teacher_steps": 16,
        "teacher_guidance": 1.0,
        "training": {},
    },
}
"""What options meant to checkpoints that do not have them, where that is not today's default."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Options from one place, and how to call that place in a message."""

    label: str
    options: dict[str, Any]


def bundled_config_names() -> list[str]:
    """Return the names of the experiments that come with the package, such as ``pusht/fm``."""
    return sorted(_bundled_files())


def _bundled_files(*, parts: bool = False) -> dict[str, Path]:
    """Return the files of the package by name, with those that are only parts to include or not."""
    files = Path(str(resources.files("lfm_policy.configs"))).glob("*/*.yaml")
    named = {f"{file.parent.name}/{file.stem}": file for file in files}
    return {k: file for k, file in named.items() if parts or not k.startswith("shared/")}


def find_config(name: str) -> Path:
    """Return the file of a configuration given by path or by bundled name.

    Raises:
        InputError: there is neither such a file nor such a bundled configuration.
    """
    path = Path(name)
    if _is_dataset(path):
        raise InputError(
            f"{name} is a dataset, and no configuration: `lfm-policy init {shlex.quote(name)}` "
            "writes a configuration for it"
        )
    found = path if is_file(path) else _bundled_files().get(name)
    if found is None:
        hint = nearest_names(name[:100], bundled_config_names())
        for suffix in YAML_SUFFIXES if name else ():
            if is_file(Path(f"{name}{suffix}")):
                hint = f"did you mean '{name}{suffix}'?"
        raise InputError(
            f"no configuration '{name[:1000]}': neither a file nor one of the bundled ones ({hint})"
        )
    return found


def _is_dataset(path: Path) -> bool:
    """Whether a path is one for sure; what is below an arbitrary folder may be the whole disk."""
    formats = SECTIONS["dataset"].registry
    if exists(path) and path.is_dir():
        suffixes = {suffix for _, entry in formats.items() for suffix in entry.suffixes}
        return path.suffix in suffixes or bool(formats.get("lerobot").detects(path))
    return path.suffix not in YAML_SUFFIXES and bool(_format_at(path))


def load_config(
    name: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> ExperimentConfig:
    """Read a configuration file, apply ``key=value`` overrides and check everything.

    ::

        config = load_config("own/state", ["dataset.path=my.zarr", "training.total_steps=2000"])
        config.policy.horizon, config.training.learning_rate

    A file may name others under ``include``, by paths relative to itself or bundled names; they
    are read first, in order, and the file's own keys win. Options that are keys and values
    themselves, such as ``distill.training``, change what was there before, the default included;
    ``{}`` takes all of it away.

    Where nothing names the format of the dataset, ``dataset.path`` is looked at. Overrides that
    choose a section, such as ``network.name=unet1d``, come before all others.

    Args:
        name: path of a YAML file, a bundled name such as ``pusht/fm``, or what such a file says.
        overrides: strings ``section.key=value``; values are parsed as YAML.

    Returns:
        All options, checked, those that nothing says with their defaults.

    Raises:
        InputError: unknown file, unknown key (with the nearest valid names), wrong type or value
            out of bounds; the message names the key and the file or override it came from.
    """
    defaults = {"distill": {"training": dict(STUDENT_TRAINING)}}
    sources = [Source("defaults", defaults), *config_sources(name, overrides)]
    return config_from_sources([*recognised_format(sources), *sources])


def config_sources(
    name: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> list[Source]:
    """Return what a configuration says and overrides change, later ones winning.

    Raises:
        InputError: unknown file, or one that cannot be read; see `load_config`.
    """
    if isinstance(name, Mapping):
        return [Source("the configuration", dict(name)), *_overrides(overrides)]
    return [*_read_file(find_config(str(name)), depth=0), *_overrides(overrides)]


def _overrides(texts: Sequence[str]) -> list[Source]:
    """Return what overrides set, first those that choose a section or take away others."""
    order = {key: 0 for section in SECTIONS for key in (section, f"{section}.name")}
    order |= {"sampler.nfe": 1, "sampler.block_nfe": 2}
    ordered = sorted(texts, key=lambda text: order.get(text.partition("=")[0].strip(), 3))
    return [parse_override(text) for text in ordered]


def recognised_format(sources: Sequence[Source]) -> list[Source]:
    """Return the format of a dataset that is there, unless a source says it."""
    sections = [source.options.get("dataset") for source in sources]
    given = [section for section in sections if isinstance(section, dict)]
    paths = [section["path"] for section in given if isinstance(section.get("path"), str)]
    if not paths or not paths[-1] or any("name" in section for section in given):
        return []
    path = Path(paths[-1]).expanduser()
    name = _format_at(path)
    return [Source(f"format of {path}", {"dataset": {"name": name}})] if name else []


def _format_at(path: Path) -> str:
    """Return the dataset format of a path; "" where there is none."""
    for name, format_class in reversed(SECTIONS["dataset"].registry.items()):
        if exists(path) and format_class.detects(path):
            return str(name)
    return ""


def config_from_dict(options: Mapping[str, Any], label: str) -> ExperimentConfig:
    """Build a checked configuration from plain options, the others having their defaults.

    Raises:
        InputError: as `load_config`; ``label`` stands for the file in messages.
    """
    return config_from_sources([Source(label, dict(options))])


def changed_config(
    config: ExperimentConfig | Mapping[str, Any],
    overrides: Sequence[str],
    label: str = "the configuration",
) -> ExperimentConfig:
    """Return a configuration with other options; see `load_config`.

    Args:
        config: the configuration, or its options.
        overrides: strings ``section.key=value``.
        label: what messages call the configuration.

    Raises:
        InputError: as `load_config`.
    """
    options = config if isinstance(config, Mapping) else config_to_dict(config)
    return config_from_sources([Source(label, dict(options)), *_overrides(overrides)])


def stored_config(options: Mapping[str, Any], label: str) -> ExperimentConfig:
    """Build a checked configuration from the options in a checkpoint.

    One that was written before there was an option goes on as it was, whatever the default of the
    option is today.

    Raises:
        InputError: as `load_config`; ``label`` stands for the file in messages.
    """
    return config_from_sources([Source("before", BEFORE), Source(label, dict(options))])


def config_to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """Return all options as plain dictionaries, lists, strings and numbers."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_to_yaml(config: ExperimentConfig) -> str:
    """Return all options as YAML."""
    return yaml.safe_dump(config_to_dict(config), sort_keys=False)


def config_from_sources(sources: Sequence[Source]) -> ExperimentConfig:
    """Merge sources, later ones winning, into a checked configuration.

    Raises:
        InputError: an option is unknown or wrong; the message names the source that set it.
    """
    merged, labels = merged_sources(sources)
    try:
        return checked(ExperimentConfig, merged)
    except OptionError as error:
        raise InputError(f"{_origin(error.key, labels)}: {str(error)[:1000]}") from None


def merged_sources(sources: Sequence[Source]) -> tuple[dict[str, Any], dict[Key, str]]:
    """Return the options of all sources, and for each key the label of the last that set it.

    A source that changes the name of a section starts that section afresh: options of the network
    chosen before mean nothing to the one chosen now. Where a section has options beside its name,
    the name alone may stand for it.
    """
    merged: dict[str, Any] = {}
    labels: dict[Key, str] = {}
    for source in sources:
        options = _with_present_names(plain_options(source.options, source.label), source.label)
        _refuse_special_text(options, source.label)
        if isinstance(sampler := options.get("sampler"), dict):
            options["sampler"] = SamplerConfig.merged_in(sampler)
        for section, chosen in SECTIONS.items():
            *parents, name = section.split(".")
            beside, beside_given = _inside(merged, parents), _inside(options, parents)
            if isinstance(beside_given.get(name), str):
                beside_given[name] = {"name": beside_given[name]}
            before, given = beside.get(name), beside_given.get(name)
            if not isinstance(before, dict) or not isinstance(given, dict) or "name" not in given:
                continue
            if given["name"] != before.get("name", chosen.default):
                del beside[name]
                key = (*parents, name)
                labels = {k: label for k, label in labels.items() if k[: len(key)] != key}
        _merge(merged, options, (), labels, source.label)
    return merged, labels


def _inside(options: dict[str, Any], sections: Sequence[str]) -> dict[str, Any]:
    """Return the options in a section of a section; empty ones if there are none."""
    for name in sections:
        inner = options.get(name)
        options = inner if isinstance(inner, dict) else {}
    return options


def _merge(
    into: dict[str, Any], options: dict[str, Any], parent: Key, labels: dict[Key, str], label: str
) -> None:
    for name, value in options.items():
        key = (*parent, name)
        labels[key] = label
        if isinstance(value, dict):
            # A whole section is never taken away: one without any keys is one not written yet.
            if not isinstance(into.get(name), dict) or (parent and not value):
                into[name] = {}
            _merge(into[name], value, key, labels, label)
        else:
            into[name] = value


def _origin(key: Key, labels: Mapping[Key, str]) -> str:
    """Return the label of the source that set a key, or of all that set something beside it."""
    if key in labels:
        return labels[key]
    for end in range(len(key) - 1, -1, -1):
        beside = {label: None for other, label in labels.items() if other[:end] == key[:end]}
        if beside:
            return ", ".join(beside)
    return "defaults"


def _with_present_names(options: dict[str, Any], label: str) -> dict[str, Any]:
    """Return options with ``flow.method`` by that name; files of before say ``prediction``."""
    flow = options.get("flow")
    if not isinstance(flow, dict) or "prediction" not in flow:
        return options
    if "method" in flow:
        raise InputError(f"{label}: flow.prediction is the old name of flow.method: give only that")
    return {**options, "flow": {"method" if k == "prediction" else k: v for k, v in flow.items()}}


def _read_file(path: Path, depth: int) -> list[Source]:
    if depth > MAXIMUM_INCLUDES:
        raise InputError(f"{path}: files include one another more than {MAXIMUM_INCLUDES} deep")
    options = read_yaml(path)
    included = options.pop(INCLUDE, None) or []
    included = [included] if isinstance(included, str) else included
    if not isinstance(included, list):
        raise InputError(f"{path}: include: expected a list of files, found {repr(included)[:200]}")
    sources: list[Source] = []
    for entry in included:
        beside = path.parent / str(entry)
        target = beside if is_file(beside) else _bundled_files(parts=True).get(str(entry))
        if target is None:
            hint = nearest_names(str(entry)[:100], list(_bundled_files(parts=True)))
            raise InputError(
                f"{path}: include: there is no file '{entry}' beside it ({beside}), and no bundled "
                f"configuration of this name ({hint})"
            )
        sources += _read_file(target, depth + 1)
    return [*sources, Source(str(path), options)]


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
    options = parse_yaml(value, label)
    for part in reversed(key.strip().split(".")):
        options = {part: options}
    return Source(label, options)


def override_texts(options: Mapping[str, Any]) -> list[str]:
    """Return options, as Python has them, as overrides ``key=value``.

    Args:
        options: by key, such as ``{"training.total_steps": 2000}``, or by section, such as
            ``{"training": {"total_steps": 2000}}``; also numbers and arrays of numpy, and paths.

    Raises:
        InputError: a value is of another kind than options are.
    """
    texts = []
    for key, value in options.items():
        try:
            # In a list, without which YAML ends a plain value with a line of its own.
            text = yaml.safe_dump([_plain(value)], default_flow_style=True, width=math.inf)
        except yaml.YAMLError:
            raise InputError(
                f"option {key}: found {value!r:.200}, expected a plain value"
            ) from None
        texts.append(f"{key}={text.strip()[1:-1]}")
    return texts


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _refuse_special_text(value: Any, label: str, key: str = "") -> None:
    """Refuse what configurations of other programs interpolate, and we would take literally."""
    if isinstance(value, dict):
        for name, part in value.items():
            _refuse_special_text(part, label, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for part in value:
            _refuse_special_text(part, label, key)
    elif isinstance(value, str) and ("${" in value or value == "???"):
        special = "${" if "${" in value else "???"
        raise InputError(f"{label}: {key}: '{value[:200]}': '{special}' is not supported")
