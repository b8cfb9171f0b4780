"""The reference of the configuration, from the classes of options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from reference_markdown import blocks, code, prose

from lfm_policy.config import ExperimentConfig
from lfm_policy.flow import SolverMethod
from lfm_policy.options import (
    MAXIMUM_LIST_LENGTH,
    Chosen,
    choices_of,
    declared,
    element_type,
    in_words,
    is_common,
    is_options,
    section_of,
    type_name,
)
from lfm_policy.plugins import registry

NAME = "name"
"""The key by which a section chooses its options."""

LONGEST_DEFAULT = 24
"""Characters of a default in the table of what one usually sets."""

_WORDS = {"int": "integer", "float": "number", "str": "text", "bool": "`true` or `false`"}
_MANY = {
    "int": "integers",
    "float": "numbers",
    "str": "texts",
    "dict": "keys and values",
    "list": "lists of numbers",
    "Any": "values",
}


@dataclass
class Entry:
    """One option.

    Attributes:
        key: as it is written, such as ``training.total_steps``.
        anchor: of the page.
        field: its declaration.
        default: its value where nothing says it.
        names: what a name may be, where the options of the section depend on it.
    """

    key: str
    anchor: str
    field: FieldInfo
    default: Any
    names: tuple[str, ...] = ()

    @property
    def often_set(self) -> bool:
        """Whether it is one of those that one usually sets."""
        return is_common(self.field) or bool(self.names)

    def markdown(self, level: int) -> str:
        """Return the option with a heading of its own."""
        facts = [_type_words(self.field.annotation), f"default {code(in_yaml(self.default))}"]
        facts += ["often set"] if self.often_set else []
        kind, names = _choices(self.field)
        names = self.names or names
        meanings = _meanings(kind)
        says = _sentence(self.field.description or "", names)
        limits = _limits(self.field, () if meanings else names)
        parts = [f"{'#' * level} {self.key} {{#{self.anchor}}}", " · ".join(facts)]
        parts.append(" ".join(text for text in (says, limits) if text))
        return "\n\n".join([*parts, *([meanings] if meanings else [])])


@dataclass
class Part:
    """Options under one heading: a section, or what one of its names has of its own."""

    title: str
    anchor: str
    level: int
    about: str = ""
    entries: list[Entry] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the part with all its options."""
        heading = f"{'#' * self.level} {self.title} {{#{self.anchor}}}"
        about = [] if not self.about else [self.about]
        return "\n\n".join(
            [heading, *about, *(entry.markdown(self.level + 1) for entry in self.entries)]
        )


def configuration_parts() -> list[Part]:
    """Return all options of an experiment, section by section."""
    config = ExperimentConfig()
    general = Part("General", "general", 2, "Keys that stand in no section.")
    parts = [general]
    anchors: set[str] = set()
    for name, declaration in declared(ExperimentConfig).items():
        value = getattr(config, name)
        if is_options(type(value)):
            chosen = section_of(declaration)
            parts += _section(name, declaration, type(value), chosen, anchors)
        else:
            general.entries.append(_entry(name, declaration, value, anchors))
    return parts


def configuration_reference() -> str:
    """Return all options of an experiment as markdown."""
    return "\n\n".join(part.markdown() for part in configuration_parts())


def common_options() -> str:
    """Return a table of the options that one usually sets, each once."""
    rows: dict[str, str] = {}
    for part in configuration_parts():
        for entry in part.entries:
            if entry.often_set:
                default = in_yaml(entry.default)
                shown = code(default) if len(default) <= LONGEST_DEFAULT else "see there"
                rows.setdefault(entry.key, f"| [`{entry.key}`](#{entry.anchor}) | {shown} |")
    return "\n".join(["| key | default |", "| --- | --- |", *rows.values()])


def _section(
    prefix: str,
    declaration: FieldInfo,
    kind: type,
    chosen: Chosen | None,
    anchors: set[str],
) -> Iterator[Part]:
    """Yield a section, and behind it what its names have of their own, or sections within."""
    whole = Part(code(prefix), prefix, 2, _about(declaration, kind, chosen))
    yield whole
    if chosen is None:
        yield from _filled(whole, prefix, kind, declared(kind), anchors)
        return
    kinds = dict(chosen.registry.items())
    shared = _shared(kinds)
    named = declared(kinds[chosen.default])[NAME]
    entry = _entry(f"{prefix}.{NAME}", named, chosen.default, anchors)
    entry.names = tuple(kinds)
    whole.entries.append(entry)
    yield from _filled(whole, prefix, kinds[chosen.default], shared, anchors)
    for name, options_class in kinds.items():
        own = {k: f for k, f in declared(options_class).items() if k not in {NAME, *shared}}
        title = f"`{prefix}.{NAME}: {name}`"
        part = Part(title, f"{prefix}.{NAME}-{name}", 3, _doc(options_class))
        yield part
        yield from _filled(part, prefix, options_class, own, anchors, suffix=name)


def _filled(
    part: Part,
    prefix: str,
    kind: type,
    fields: Mapping[str, FieldInfo],
    anchors: set[str],
    suffix: str = "",
) -> Iterator[Part]:
    """Add options to a part; yield the sections among them, whose options follow."""
    made = kind()
    for name, declaration in fields.items():
        key, value = f"{prefix}.{name}", getattr(made, name)
        if is_options(type(value)):
            yield from _section(key, declaration, type(value), section_of(declaration), anchors)
            continue
        part.entries.append(_entry(key, declaration, value, anchors, suffix))
        if chosen := section_of(declaration):
            # A dictionary that has an entry of its own, which the key means.
            for inner in _section(key, declaration, dict, chosen, anchors):
                inner.anchor = f"{inner.anchor}-options" if inner.anchor == key else inner.anchor
                yield inner


def _entry(
    key: str, declaration: FieldInfo, value: Any, anchors: set[str], suffix: str = ""
) -> Entry:
    anchor = key if key not in anchors else f"{key}.{suffix}"
    assert anchor not in anchors, anchor
    anchors.add(anchor)
    return Entry(key, anchor, declaration, value)


def _shared(kinds: Mapping[str, type]) -> dict[str, FieldInfo]:
    """Return the options that all kinds have in common, with the same meaning and default."""
    first, *others = (declared(kind) for kind in kinds.values())

    def same(name: str, declaration: FieldInfo) -> bool:
        return all(
            name in other
            and other[name].description == declaration.description
            and type_name(other[name].annotation) == type_name(declaration.annotation)
            for other in others
        )

    return {n: f for n, f in first.items() if n != NAME and same(n, f)}


def _about(declaration: FieldInfo, kind: type, chosen: Chosen | None) -> str:
    if chosen is None and is_options(kind):
        return _doc(kind)
    return _sentence(declaration.description or "", ())


def _doc(kind: type) -> str:
    """Return what the docstring of a class of options says, without notes for who extends it."""
    text = inspect.cleandoc(kind.__doc__ or "")
    kept = [p for p in blocks(text) if not p.startswith(("Adding ", "Attributes:"))]
    return "\n\n".join(kept)


def in_yaml(value: Any) -> str:
    """Return a value as one writes it in a file."""
    text = yaml.safe_dump([value], default_flow_style=True, width=10_000, sort_keys=False)
    return text.strip()[1:-1]


def _type_words(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is list:
        elements = type_name(parts[0]).split(" | ")
        kind = "float" if "float" in elements else elements[0].partition("[")[0]
        return f"list of {_MANY[kind]}"
    if origin is dict:
        return f"keys and {_MANY.get(type_name(parts[1]), 'values')}"
    name = type_name(annotation)
    if name in _WORDS:
        return _WORDS[name]
    words = [code("null") if w is type(None) else _alternative(w) for w in parts]
    return " or ".join(words)


def _alternative(annotation: Any) -> str:
    name = type_name(annotation)
    return _type_words(annotation) if get_origin(annotation) or name in _WORDS else code(name)


def _choices(declaration: FieldInfo) -> tuple[str, tuple[str, ...]]:
    """Return the kind of things that an option chooses from, if it has one, and their names."""
    choices = choices_of(declaration)
    if isinstance(choices, str):
        return choices, registry(choices).names()
    return "", tuple(choices or ())


def _meanings(kind: str) -> str:
    """Return what the things of a kind are, as a list; "" where their code does not say it."""
    if not kind:
        return ""
    lines = []
    for name, entry in registry(kind).items():
        if isinstance(entry, SolverMethod):
            taken = entry.evaluations
            says = f"{taken} network evaluations a step" if taken else "adaptive"
            alone = f", with {code(f'flow.method={entry.method}')} alone" if entry.method else ""
            says = says.replace("1 network evaluations", "1 evaluation")
            lines.append(f"- `{name}`: {says}{alone}")
        elif entry.__doc__ and kind not in ("derivation", "environment"):
            says = inspect.cleandoc(entry.__doc__).split("\n\n")[0].removeprefix("Return ")
            lines.append(f"- `{name}`: {prose(says)}")
    return "\n".join(lines)


def _sentence(text: str, names: Sequence[str]) -> str:
    """Return a text as a sentence; one that begins with a name keeps that as it is."""
    says = prose(text)
    return f"{says if text.partition(':')[0] in names else says[:1].upper() + says[1:]}."


def _limits(declaration: FieldInfo, names: tuple[str, ...]) -> str:
    """Return the values that an option may have, as a sentence; "" for any."""
    words = [f"One of {', '.join(map(code, names))}"] if names[1:] else []
    words += [f"Can be {code(names[0])}"] if len(names) == 1 else []
    if get_origin(declaration.annotation) is list:
        length = in_words(list, declaration.metadata)
        words += [f"{length} elements"] if length != f"0 to {MAXIMUM_LIST_LENGTH}" else []
        each = in_words(*element_type(declaration.annotation))
        words += [f"each {each}"] if each else []
    elif bounds := in_words(declaration.annotation, declaration.metadata):
        words.append(bounds)
    said = "; ".join(words)
    return f"{said[:1].upper()}{said[1:]}." if said else ""
