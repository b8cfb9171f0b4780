"""How failures of HDF5 become messages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lfm_policy.errors import InputError

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


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
    """Turn failures of HDF5 into an :class:`InputError`."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{source} cannot be read ({brief(error)}): {COPY_AGAIN}") from error


def brief(error: Exception) -> str:
    """Return kind and first line of an error of a library, at most 200 characters of it."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
