"""Typed options with their meaning and bounds, declared once in the dataclasses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from lfm_policy.errors import InputError
from lfm_runtime.registry import Registry, nearest_names

MAXIMUM_LIST_LENGTH = 64


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | Registry[Any] | None = None,
) -> Any:
    """Declare a dataclass field with its meaning and the values it may take.

    ``choices`` may be a registry, whose names are those at the time of checking.

    Bounds are inclusive; on a list they hold for each element. A list has at most
    ``MAXIMUM_LIST_LENGTH`` elements, so a hostile file cannot ask for unbounded work.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def validate_options(config: Any, prefix: str = "") -> None:
    """Check every field of a (nested) options dataclass against its declared bounds.

    Raises:
        InputError: a value is outside its bounds; the message gives the full key, the value and
            what is allowed.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            validate_options(value, prefix=f"{key}.")
            continue
        for element_key, element in _elements(key, value):
            _check_value(element_key, element, field.metadata)


def _elements(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        if len(value) > MAXIMUM_LIST_LENGTH:
            raise InputError(
                f"{key} has {len(value)} elements, at most {MAXIMUM_LIST_LENGTH} are allowed"
            )
        for position, element in enumerate(value):
            yield f"{key}[{position}]", element
    else:
        yield key, value


def _check_value(key: str, value: Any, metadata: Any) -> None:
    choices = metadata.get("choices")
    if choices is not None and value is not None and value not in choices:
        hint = nearest_names(str(value), list(choices))
        raise InputError(f"{key} is '{value}', expected one of {', '.join(choices)} ({hint})")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key} is {value}, expected a finite number")
    minimum, maximum = metadata.get("minimum"), metadata.get("maximum")
    if minimum is not None and value < minimum:
        raise InputError(f"{key} is {value}, expected at least {minimum:g}")
    if maximum is not None and value > maximum:
        raise InputError(f"{key} is {value}, expected at most {maximum:g}")
