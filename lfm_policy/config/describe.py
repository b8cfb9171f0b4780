"""All options in words, from the dataclasses themselves."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence, Set
from typing import Any, get_origin

from pydantic.fields import FieldInfo

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

WIDTH = 96
"""Characters in a line where the terminal has no fewer."""

FieldKey = tuple[str, str | None]
"""Name and meaning of an option."""


def describe_options(config: Any, *, everything: bool = True) -> str:
    """Return every option in words: key, type, current value, meaning and allowed values.

    Where a section depends on a name, the options of the other names follow with their defaults:
    right behind it, or, of the options that one usually sets, behind all others and only as far as
    they are not those that were described.

    Args:
        config: options, such as an `ExperimentConfig`.
        everything: rather than only those that one usually sets, and without their bounds.
    """
    lines = [*_lines(config, "", everything)]
    if not everything:
        lines += ["", "What else sections may be:", *_other_choices(config, "")]
    return "\n".join(lines)


def _lines(
    config: Any,
    prefix: str,
    everything: bool,
    names: Sequence[str] | None = (),
    besides: Set[FieldKey] = frozenset(),
) -> Iterator[str]:
    """Describe the options of a section.

    Args:
        config: of this section.
        prefix: its key and a dot.
        everything: see `describe_options`.
        names: what its name can be if its options depend on it; None: leave out the name.
        besides: what is left out.
    """
    for name, field in declared(type(config)).items():
        key, value, section = f"{prefix}{name}", getattr(config, name), section_of(field)
        if is_options(type(value)):
            known = section.registry.names() if section else ()
            yield from _lines(value, f"{key}.", everything, known)
        elif (name == "name" and names is None) or (name, field.description) in besides:
            continue
        elif everything or is_common(field) or (name == "name" and names):
            choices = (names if name == "name" else None) or _choices(field)
            yield f"{key}: {type_name(field.annotation)} = {value!r}"
            yield _paragraph(f"{field.description}{_allowed(field, choices, bounds=everything)}")
        else:
            continue
        if section and everything:
            yield from _alternatives(section, key, True, value)


def _other_choices(config: Any, prefix: str) -> Iterator[str]:
    """Describe what else the sections of a configuration may be, as far as one usually sets it."""
    for name, field in declared(type(config)).items():
        section, value = section_of(field), getattr(config, name)
        if section:
            yield from _alternatives(section, f"{prefix}{name}", False, value)
        if is_options(type(value)):
            yield from _other_choices(value, f"{prefix}{name}.")


def _alternatives(section: Chosen, key: str, everything: bool, value: Any) -> Iterator[str]:
    """Describe what else a section may be, by name, with the options of each."""
    described = set() if everything else _field_keys(type(value))
    for name, options_class in section.registry.items():
        if name != getattr(value, "name", ""):
            yield f"  with {key}.name={name}:"
            other = options_class()
            lines = [*_lines(other, f"{key}.", everything, None, described)]
            if not everything:
                described |= _field_keys(options_class)
                lines += _other_choices(other, f"{key}.")
            for text in lines:
                yield textwrap.indent(text, "    ")


def _field_keys(kind: type) -> set[FieldKey]:
    fields = declared(kind) if is_options(kind) else {}
    return {(name, field.description) for name, field in fields.items()}


def _choices(field: FieldInfo) -> Sequence[str]:
    choices = choices_of(field)
    return tuple(registry(choices) if isinstance(choices, str) else choices or ())


def _allowed(field: FieldInfo, choices: Sequence[str], *, bounds: bool) -> str:
    """Return the values that an option may have, in brackets."""
    words = [f"one of {', '.join(choices)}"] if choices else []
    if not bounds:
        pass
    elif get_origin(field.annotation) is list:
        length = in_words(list, field.metadata)
        words += [f"{length} elements"] if length != f"0 to {MAXIMUM_LIST_LENGTH}" else []
        words += [f"each {each}"] if (each := in_words(*element_type(field.annotation))) else []
    elif allowed := in_words(field.annotation, field.metadata):
        words.append(allowed)
    return f" ({'; '.join(words)})" if words else ""


def _paragraph(text: str) -> str:
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    # Without breaks in names of options, which are pasted.
    return textwrap.fill(
        text, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )
