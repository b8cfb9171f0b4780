"""Filter keys of robomimic files: ``mask/<filter key>`` lists names of demos."""

from __future__ import annotations

from collections.abc import Sequence

from lfm_policy.data.hdf5.array import Hdf5Array, ObjectRefused
from lfm_policy.data.hdf5.file import Hdf5Group
from lfm_policy.data.robomimic.checks import numeric_order
from lfm_policy.errors import InputError
from lfm_runtime.registry import nearest_names

_FEW_NAMES = 1000
"""A list may have so many names, or ten times as many as there are demos."""


class FilterKeys:
    """All lists of demos of a file; nothing is read, nor complained of, before it is asked for.

    Attributes:
        names: of the lists.
    """

    def __init__(self, root: Hdf5Group, demos: Sequence[str]) -> None:
        """Look for the lists.

        Args:
            root: the group that holds everything.
            demos: names of all demos.
        """
        self._path, self._demos = root.path, tuple(demos)
        self._mask: Hdf5Group | None = None
        self._refused: ObjectRefused | None = None
        try:
            mask = root.find("mask")
        except ObjectRefused as refused:
            self._refused = refused
        else:
            self._mask = mask if isinstance(mask, Hdf5Group) else None
        self.names: tuple[str, ...] = self._mask.names() if self._mask is not None else ()

    def select(self, name: str) -> tuple[str, ...]:
        """Return the demos that a list names, in numeric order.

        Raises:
            InputError: there is no such list, it cannot be read, or it names no demo or one that
                is absent.
        """
        if self._refused is not None:
            raise self._refused
        source = f"{self._path}: mask/{name}"
        if self._mask is None or name not in self.names:
            raise InputError(
                f"{self._path}: there is no filter key mask/{name}: "
                + nearest_names(name, self.names)
            )
        mask = self._mask.find(name)
        if not isinstance(mask, Hdf5Array):
            raise InputError(f"{source} is no list; expected names of demos")
        listed = set(mask.read_names(max(_FEW_NAMES, 10 * len(self._demos))))
        if unknown := listed.difference(self._demos):
            demo = min(unknown)
            raise InputError(
                f"{source} lists '{demo:.100}', which is not among the {len(self._demos)} demos "
                f"under data: {nearest_names(demo, self._demos)}"
            )
        if not listed:
            raise InputError(f"{source} lists no demo: there is nothing to read")
        return tuple(sorted(listed, key=numeric_order))

    def all(self) -> dict[str, tuple[str, ...] | InputError]:
        """Return the demos of every list; of one that cannot be read, the error."""
        if self._refused is not None:
            return {"": self._refused}
        lists: dict[str, tuple[str, ...] | InputError] = {}
        for name in self.names:
            try:
                lists[name] = self.select(name)
            except InputError as error:
                lists[name] = error
        return lists
