"""All options in words, from the dataclasses themselves."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
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


def describe_options(config: Any, *, everything: bool = True) -> str:
    """Return every option in words: key, type, current value, meaning and allowed values.

    Where a section depends on a name, the options of the other names follow with their defaults.

    Args:
        config: options, such as an `ExperimentConfig`.
        everything: rather than only those that one usually sets.
    """
    return "\n".join(_lines(config, "", everything))


def _lines(
    config: Any, prefix: str, everything: bool, names: Sequence[str] | None = ()
) -> Iterator[str]:
    """Describe the options of a section.

    Args:
        config: of this section.
        prefix: its key and a dot.
        everything: see `describe_options`.
        names: what its name can be if its options depend on it; None: leave out the name.
    """
    for name, field in declared(type(config)).items():
        key, value, section = f"{prefix}{name}", getattr(config, name), section_of(field)
        if is_options(type(value)):
            known = section.registry.names() if section else ()
            yield from _lines(value, f"{key}.", everything, known)
        elif name == "name" and names is None:
            continue
        elif everything or is_common(field) or (name == "name" and names):
            choices = (names if name == "name" else None) or _choices(field)
            yield f"{key}: {type_name(field.annotation)} = {value!r}"
            yield _paragraph(f"{field.description}{_allowed(field, choices)}")
        else:
            continue
        if section:
            yield from _alternatives(section, key, everything, besides=getattr(value, "name", ""))


def _alternatives(section: Chosen, key: str, everything: bool, besides: str) -> Iterator[str]:
    """Describe what else a section may be, by name, with the options of each."""
    for name, options_class in section.registry.items():
        if name != besides:
            yield f"  with {key}.name={name}:"
            for text in _lines(options_class(), f"{key}.", everything, None):
                yield textwrap.indent(text, "    ")


def _choices(field: FieldInfo) -> Sequence[str]:
    choices = choices_of(field)
    return tuple(registry(choices) if isinstance(choices, str) else choices or ())


def _allowed(field: FieldInfo, choices: Sequence[str]) -> str:
    """Return the values that an option may have, in brackets."""
    words = [f"one of {', '.join(choices)}"] if choices else []
    if get_origin(field.annotation) is list:
        length = in_words(list, field.metadata)
        words += [f"{length} elements"] if length != f"0 to {MAXIMUM_LIST_LENGTH}" else []
        words += [f"each {each}"] if (each := in_words(*element_type(field.annotation))) else []
    elif bounds := in_words(field.annotation, field.metadata):
        words.append(bounds)
    return f" ({'; '.join(words)})" if words else ""


def _paragraph(text: str) -> str:
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    return textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    ")
