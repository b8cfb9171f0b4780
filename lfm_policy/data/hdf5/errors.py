"""How failures of HDF5 become messages."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from lfm_policy import errors

COPY_AGAIN = "the file is truncated or damaged; copy it again"


def as_text(value: Any) -> str:
    """Return an attribute or an element of a list of names as text.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} instead of text")


def reading(source: str) -> AbstractContextManager[None]:
    """Turn failures of HDF5 into an :class:`InputError`."""
    return errors.reading(f"{source} cannot be read", COPY_AGAIN, passing=MemoryError)
