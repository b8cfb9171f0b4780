"""Things chosen by name: networks, encoders, dataset formats, solvers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Generic, TypeVar

from lfm_runtime.errors import InputError

T = TypeVar("T")


def nearest_names(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return a hint such as ``did you mean 'mlp'?``, or the list of all known names."""
    close = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "known: " + (", ".join(known) if known else "none")


class Registry(Generic[T]):
    """An immutable table from name to implementation.

    A new implementation is one file plus its line in the table; nothing registers itself on
    import, so reading the table never depends on what happens to have been imported.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def get(self, name: str) -> T:
        """Return the entry called ``name``.

        Raises:
            InputError: there is no such entry; the message gives the nearest names.
        """
        if name not in self._entries:
            hint = nearest_names(name, self.names())
            raise InputError(f"unknown {self.kind} '{name}': {hint}")
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return all names, in the order of the table."""
        return tuple(self._entries)

    def items(self) -> tuple[tuple[str, T], ...]:
        """Return all (name, entry) pairs, in the order of the table."""
        return tuple(self._entries.items())
