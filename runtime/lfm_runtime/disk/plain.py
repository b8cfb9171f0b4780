"""Options as they come from files and command lines, checked before anything works on them.

The bounds are far above what an experiment needs. They are there because a configuration may come
with somebody else's checkpoint, and must not be able to ask for much time or memory.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from lfm_runtime.errors import InputError

MAXIMUM_VALUES = 10_000
MAXIMUM_DEPTH = 20
MAXIMUM_TEXT = 4_096
INTEGER_BITS = 63


def plain_options(
    options: Mapping[Any, Any], label: str, *, maximum_values: int = MAXIMUM_VALUES
) -> dict[str, Any]:
    """Return a copy of (nested) options, with text as keys.

    Args:
        options: dictionaries, lists, text, numbers, booleans and None.
        label: what to call the place they come from in messages.
        maximum_values: most values, those that hold others included.

    Raises:
        InputError: too many or too deeply nested values, a number or text that is too long,
            unprintable characters, or a value of another type.
    """
    copied: dict[str, Any] = _Copy(label, maximum_values).value(options, "", 0)
    return copied


class _Copy:
    def __init__(self, label: str, maximum_values: int) -> None:
        self._label = label
        self._maximum_values = maximum_values
        self._count = 0

    def value(self, value: Any, key: str, depth: int) -> Any:
        self._count += 1
        if self._count > self._maximum_values:
            raise InputError(f"{self._label}: has more than {self._maximum_values:,} values")
        if depth > MAXIMUM_DEPTH:
            raise self._error(key, f"is nested more than {MAXIMUM_DEPTH} deep")
        if isinstance(value, Mapping):
            return {
                self._text(str(k), key): self.value(v, _join(key, str(k)), depth + 1)
                for k, v in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(v, f"{key}[{n}]", depth + 1) for n, v in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, key)
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS:
            raise self._error(key, f"is a number of more than {INTEGER_BITS} bits")
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise self._error(
            key,
            f"found a {type(value).__name__}, expected text, a number, true, false, a list or keys "
            "and values; put text in quotes",
        )

    def _text(self, text: str, key: str) -> str:
        if len(text) > MAXIMUM_TEXT:
            raise self._error(key, f"is or holds text of {len(text):,} characters")
        # Cc are control characters, Cs halves of characters that no file can store.
        if not text.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
            raise self._error(key, f"is or holds text with control characters: {text[:60]!a}")
        return text

    def _error(self, key: str, message: str) -> InputError:
        return InputError(
            f"{self._label}: {key[:200]}: {message}" if key else f"{self._label}: {message}"
        )


def _join(key: str, name: str) -> str:
    return f"{key}.{name[:60]}" if key else name[:60]
