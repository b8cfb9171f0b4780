"""The reference of the bundled configurations, from their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from reference_markdown import blocks, prose

from lfm_policy.config import (
    ExperimentConfig,
    bundled_config_names,
    config_to_dict,
    load_config,
)
from lfm_policy.config.load import find_config
from lfm_policy.config.schema import SECTIONS

Options = dict[str, Any]


def bundled_reference(group: str) -> str:
    """Return a table of the configurations of a folder, and what each of them says.

    Args:
        group: name of the folder, such as ``pusht``.
    """
    names = [name for name in bundled_config_names() if name.startswith(f"{group}/")]
    changed = {name: changes(load_config(name)) for name in names}
    common = in_common([*changed.values()])
    rows = ["| configuration | what for | network, blocks, steps |", "| --- | --- | --- |"]
    rows += [f"| [`{name}`](#{name}) | {prose(purpose(name))} | {_size(name)} |" for name in names]
    parts = ["\n".join(rows)]
    if common and len(names) > 1:
        parts += ["All of them say, other than the defaults:", _yaml(common)]
    for name in names:
        own = _without(changed[name], common if len(names) > 1 else {})
        parts += [f"### {name} {{#{name}}}", *blocks(_comment(find_config(name)), language="bash")]
        own, has_plain_students = _without_plain_students(own, common)
        parts += [_yaml(own) if own else "All else is as the defaults say."]
        if has_plain_students:
            parts.append("Its students are trained [as it was itself](#plain-students).")
    return "\n\n".join(parts)


def plain_students() -> str:
    """Return the options of students that are trained as their teachers were."""
    return _yaml({"distill": _plain()})


def bundled_parts() -> str:
    """Return the files that a configuration may include and that are none by themselves."""
    parts = []
    for file in sorted(_shared().glob("*.yaml")):
        said = file.read_text(encoding="utf-8").splitlines()
        options = "\n".join(line for line in said if not line.startswith("#"))
        parts += [f"### shared/{file.stem}", *blocks(_comment(file), language="bash")]
        parts.append(f"```yaml\n{options.strip()}\n```")
    return "\n\n".join(parts)


def purpose(name: str) -> str:
    """Return the first sentence of the comment at the head of a configuration."""
    text = " ".join(
        line for line in _comment(find_config(name)).splitlines() if not line.startswith(" ")
    )
    first = text.split(". ")[0].removesuffix(".")
    return first.partition(": ")[0] if len(first) > 120 else first


def _shared() -> Path:
    """Return the folder of the parts that configurations have in common."""
    return find_config("pusht/fm").parents[1] / "shared"


def _comment(file: Path) -> str:
    """Return the comment at the head of a configuration; examples of commands are indented."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines)


def _plain() -> Options:
    """Return how students are distilled that are trained as their teachers were."""
    file = _shared() / "plain_students.yaml"
    options: Options = yaml.safe_load(file.read_text(encoding="utf-8"))["distill"]
    return options


def _without_plain_students(options: Options, common: Options) -> tuple[Options, bool]:
    """Return options without those of plain students, and whether they had all of them."""
    said = options.get("distill", {})
    plain = {k: v for k, v in _plain().items() if k not in common.get("distill", {})}
    if not plain or any(said.get(key, options) != value for key, value in plain.items()):
        return options, False
    distill = {key: value for key, value in said.items() if key not in plain}
    rest = {key: value for key, value in options.items() if key != "distill"}
    return {**rest, **({"distill": distill} if distill else {})}, True


def changes(config: ExperimentConfig) -> Options:
    """Return the options that make a configuration of the defaults, section by section.

    The defaults are those of the network, encoder and dataset format that it has.
    """
    options, defaults = config_to_dict(config), config_to_dict(ExperimentConfig())
    chosen: Options = {}
    for section in SECTIONS:
        *parents, name = section.split(".")
        _inside(chosen, parents)[name] = {"name": _inside(options, parents)[name]["name"]}
    n_blocks = config.flow.n_blocks
    chosen["flow"]["n_blocks"] = n_blocks  # not every method can have those of the defaults
    found = _different(options, config_to_dict(load_config(chosen)))
    if n_blocks != defaults["flow"]["n_blocks"]:
        found["flow"] = {"n_blocks": n_blocks} | found.get("flow", {})
    for section in SECTIONS:
        *parents, name = section.split(".")
        own = _inside(chosen, parents)[name]
        if own["name"] != _inside(defaults, parents)[name]["name"]:
            beside = _inside(found, parents)
            beside[name] = own | beside.get(name, {})
    ordered = {name: found[name] for name in options if name in found}
    for key in ("encoder", "encoder_steps"):
        # What `training.encoder: auto` comes to follows from the others.
        training = {k: v for k, v in ordered.get("training", {}).items() if k != key}
        without = {**ordered, "training": training}
        if config_to_dict(load_config(without)) == options:
            ordered = {name: value for name, value in without.items() if value}
    return {name: value for name, value in ordered.items() if name != "name"}


def _inside(options: Options, sections: Sequence[str]) -> Options:
    """Return the options in a section of a section, which is made if need be."""
    for name in sections:
        options = options.setdefault(name, {})
    return options


def _different(options: Mapping[str, Any], defaults: Mapping[str, Any], depth: int = 0) -> Options:
    """Return the options with other values; those that are keys and values themselves whole."""
    found: Options = {}
    for key, value in options.items():
        default = defaults.get(key)
        is_section = isinstance(value, dict) and (not depth or key in ("method", "time"))
        if is_section and isinstance(default, dict):
            inner = _different(value, default, depth + 1)
            found |= {key: inner} if inner else {}
        elif value != default:
            found[key] = value
    return found


def in_common(options: list[Options]) -> Options:
    """Return what is the same in all of several options."""
    first, *others = options
    found: Options = {}
    for key, value in first.items():
        values = [other.get(key) for other in others]
        if all(v == value for v in values):
            found[key] = value
        elif isinstance(value, dict) and all(isinstance(v, dict) for v in values):
            inner = in_common([value, *(v for v in values if isinstance(v, dict))])
            found |= {key: inner} if inner else {}
    return found


def _without(options: Options, common: Options) -> Options:
    """Return options without those that are said elsewhere."""
    found: Options = {}
    for key, value in options.items():
        if isinstance(value, dict) and isinstance(common.get(key), dict):
            if inner := _without(value, common[key]):
                found[key] = inner
        elif key not in common:
            found[key] = value
    return found


def _size(name: str) -> str:
    """Return network, number of blocks and steps of a configuration in a few words."""
    config = load_config(name)
    network = config_to_dict(config)["network"]
    wide = network.get("channels") or network.get("width")
    size = "-".join(map(str, wide)) if isinstance(wide, list) else f"{wide} wide"
    blocks = config.flow.n_blocks
    steps = f"{config.training.total_steps:,} steps"
    if config.training.encoder == "joint":
        steps = f"{config.training.encoder_steps:,} + {steps}"
    return f"{network['name']} {size}, {blocks} block{'s' if blocks > 1 else ''}, {steps}"


def _yaml(options: Options) -> str:
    text = yaml.safe_dump(options, sort_keys=False, default_flow_style=None, width=88)
    return f"```yaml\n{text.strip()}\n```"
