"""Things chosen by name: networks, encoders, methods, dataset formats, environments, robots."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast, overload

from lfm_runtime.errors import InputError
from lfm_runtime.plugins import broken_plugins, load_more, loading, plugin_being_loaded

T = TypeVar("T")
EntryT = TypeVar("EntryT")


def nearest_names(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return a hint such as ``did you mean 'mlp'?``, or the list of all known names."""
    close = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "known: " + (", ".join(known) if known else "none")


class Registry(Generic[T]):
    """A table from name to implementation.

    What comes with the package is listed where the table is made: a new implementation is one
    file plus its line there. What lives elsewhere is added, by a plugin, under a name that is
    free::

        NETWORKS.add("wide", WideConfig)

        @NETWORKS.add("wide")
        class WideConfig(NetworkConfig): ...

    An entry may be text, ``module:attribute``, which is imported when somebody asks for it.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T | str],
        *,
        added: Callable[[str, T], None] | None = None,
    ) -> None:
        """Make the table of the package itself.

        Args:
            kind: what the entries are, in the singular, for messages.
            entries: name -> implementation, or where it is imported from.
            added: called with each entry before it is in the table; it may refuse it.
        """
        self.kind = kind
        self._entries: dict[str, T | str] = dict(entries)
        self._plugins: dict[str, str] = {}
        self._added = added
        if added is not None:
            for name, entry in self.items():
                added(name, entry)

    @overload
    def add(self, name: str, entry: T | str) -> T | str: ...

    @overload
    def add(self, name: str) -> Callable[[EntryT], EntryT]: ...

    def add(self, name: str, entry: Any = None) -> Any:
        """Add an entry; without ``entry``, return a decorator that adds what it decorates.

        Raises:
            InputError: the name is taken; the message says by what.
        """
        if entry is None:
            return lambda entry: self.add(name, entry)
        there = self._entries.get(name)
        # What is defined anew, in a notebook or after `importlib.reload`, takes its own place.
        if there is not None and not (name in self._plugins and _place(there) == _place(entry)):
            owner = self._plugins.get(name)
            raise InputError(
                f"the {self.kind} '{name}' is there already: {_place(there)}, "
                + (f"of the plugin '{owner}'" if owner else "which comes with lfm-policy")
                + f"; {_place(entry)} needs another name"
            )
        if self._added is not None:
            self._added(name, entry)
        self._entries[name] = entry
        self._plugins[name] = plugin_being_loaded() or _place(entry).partition(":")[0]
        return entry

    def get(self, name: str) -> T:
        """Return the entry called ``name``; plugins of installed packages are loaded if need be.

        Raises:
            InputError: there is no such entry (the message gives the nearest names), or it cannot
                be imported.
        """
        if name not in self:
            hint = "; ".join([nearest_names(name, self.names()), *broken_plugins()])
            raise InputError(f"unknown {self.kind} '{name}': {hint}")
        entry = self._entries[name]
        if isinstance(entry, str):
            entry = self._entries[name] = cast(T, self._imported(name, entry))
        return entry

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Return what an entry that is a class or function makes of arguments.

        Args:
            name: of the entry.
            *arguments: what every entry of this kind takes.
            **options: what a user gives this one.

        Raises:
            InputError: there is no such entry, or it does not take these options.
        """
        entry: Any = self.get(name)
        try:
            inspect.signature(entry).bind(*arguments, **options)
        except TypeError as error:
            raise InputError(f"the {self.kind} '{name}' does not take this: {error}") from None
        return entry(*arguments, **options)

    def __contains__(self, name: object) -> bool:
        """Whether there is such an entry, also one of a plugin that has not been needed so far."""
        if name not in self._entries:
            load_more()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, so that a registry can be what an option chooses from."""
        return iter(self.names())

    def names(self) -> tuple[str, ...]:
        """Return all names, in the order of the table, later additions last."""
        return tuple(self._entries)

    def items(self) -> tuple[tuple[str, T], ...]:
        """Return all (name, entry) pairs, in the order of the table."""
        return tuple((name, self.get(name)) for name in self.names())

    def plugin_of(self, name: str) -> str:
        """Return the plugin that added a name; empty for what comes with the package.

        An entry that was added outside any plugin counts as one of the module that holds it.
        """
        return self._plugins.get(name, "")

    def _imported(self, name: str, place: str) -> Any:
        module, _, attribute = place.partition(":")
        try:
            with loading(self.plugin_of(name)):
                return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"the {self.kind} '{name}' cannot be imported from {place}: {error}"
            ) from error


def _place(entry: Any) -> str:
    """Return where an entry, or the class of one, is defined, as ``module:name``."""
    if isinstance(entry, str):
        return entry
    owner = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{owner.__module__}:{owner.__qualname__}"
