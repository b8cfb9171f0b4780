"""Checks of configuration fields; every message prints the offending value.

The upper bounds matter as much as the lower ones: a configuration may come from a checkpoint that
somebody else wrote, and must not be able to ask for an absurd amount of memory or time.
"""

from __future__ import annotations

import math

from lfm_policy.errors import InputError


def check_int(
    config: object, field: str, *, low: int, high: int, multiple_of: int = 1, why: str = ""
) -> None:
    """Check that a field is an integer in [low, high] and a multiple of ``multiple_of``.

    Raises:
        InputError: it is not; ``why`` is appended to the message.
    """
    value = getattr(config, field)
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if is_int and low <= value <= high and value % multiple_of == 0:
        return
    expected = f"an integer from {low} to {high}"
    if multiple_of > 1:
        expected += f" that is a multiple of {multiple_of}"
    raise InputError(_message(config, field, expected, why))


def check_ints(
    config: object,
    field: str,
    *,
    low: int,
    high: int,
    min_length: int,
    max_length: int,
    multiple_of: int = 1,
    why: str = "",
) -> None:
    """Check that a field is a list of integers, each as in :func:`check_int`.

    Raises:
        InputError: it is not; ``why`` is appended to the message.
    """
    value = getattr(config, field)
    if (
        isinstance(value, list | tuple)
        and min_length <= len(value) <= max_length
        and all(
            isinstance(v, int)
            and not isinstance(v, bool)
            and low <= v <= high
            and v % multiple_of == 0
            for v in value
        )
    ):
        return
    expected = f"{min_length} to {max_length} integers from {low} to {high}"
    if multiple_of > 1:
        expected += f", each a multiple of {multiple_of}"
    raise InputError(_message(config, field, expected, why))


def check_probability(config: object, field: str) -> None:
    """Check that a field is a number in [0, 1), such as a dropout rate.

    Raises:
        InputError: it is not.
    """
    value = getattr(config, field)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and 0.0 <= value < 1.0):
        raise InputError(_message(config, field, "a number from 0 up to but not including 1", ""))


def check_float(config: object, field: str, *, low: float, high: float) -> None:
    """Check that a field is a number in [low, high].

    Raises:
        InputError: it is not.
    """
    value = getattr(config, field)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and low <= value <= high):
        raise InputError(_message(config, field, f"a number from {low:g} to {high:g}", ""))


def check_own_name(config: object) -> None:
    """Check that ``config.name`` is the name that its class is known by.

    Raises:
        InputError: it is not, so that the configuration would be saved under another's name.
    """
    own = type(config).name  # type: ignore[attr-defined]
    if config.name != own:  # type: ignore[attr-defined]
        raise InputError(_message(config, "name", f"'{own}'", ""))


def _message(config: object, field: str, expected: str, why: str) -> str:
    value = getattr(config, field)
    text = f"{type(config).__name__}.{field} is {value!r}, expected {expected}"
    return f"{text} ({why})" if why else text
