"""Names in robomimic files: of demos, in which order, and of lists of them (filter keys)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lfm_policy.data.hdf5.array import Hdf5Array, ObjectRefused
from lfm_policy.data.hdf5.file import Hdf5Group
from lfm_policy.errors import InputError
from lfm_runtime.registry import nearest_names

_LISTED = 20

_FEW_NAMES = 1000
"""A list may have so many names, or ten times as many as there are demos."""


def numeric_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key by which numbers inside names count as numbers: demo_2, demo_10."""
    # A number with more digits is larger; those with as many compare like text. Text itself comes
    # after numbers. No int: there may be more digits than Python converts.
    parts = [part.lstrip("0") if part.isdigit() else part for part in re.split("([0-9]+)", name)]
    return tuple((len(p) if p.isdigit() or not p else 2**63, p) for p in parts)


def some_names(names: Sequence[str]) -> str:
    """Return names for a message: the first ones, and so much of each that it can be read."""
    listed = [f"{name:.60}" for name in names[:_LISTED]]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(listed) + more if listed else "nothing"


def one_episode_hint(names: Sequence[str]) -> str:
    """Return what to do with a file that holds one episode, as ALOHA's and DROID's recorders write.

    Args:
        names: what is at the root of a file that has no ``data``.

    Returns:
        To follow a message; empty where nothing looks like an episode.
    """
    if not {"action", "actions"} & set(names) or not {"observation", "observations"} & set(names):
        return ""
    return (
        ". It looks like a single episode, as ALOHA and DROID record them, one file each: that "
        "layout is not read. Convert all of them to a LeRobot dataset (v2.0 to v3.0; the makers of "
        "such sets publish converters), or copy them into one robomimic file (data/demo_0, "
        "data/demo_1 and so on) or one zarr replay buffer (data/<key>, episodes end to end, and "
        "meta/episode_ends)"
    )


class FilterKeys:
    """All lists of demos of a file; nothing is read, nor complained of, before it is asked for.

    Attributes:
        names: of the lists.
    """

    def __init__(self, root: Hdf5Group, demos: Sequence[str]) -> None:
        """Look for the lists.

        Args:
            root: the group that holds everything.
            demos: names of all demos, in their order.
        """
        self._path, self._demos = root.path, tuple(demos)
        mask, self._refused = None, None
        try:
            mask = root.find("mask")
        except ObjectRefused as refused:
            self._refused = refused
        self._mask = mask if isinstance(mask, Hdf5Group) else None
        self.names = self._mask.names() if self._mask is not None else ()

    def select(self, name: str | None) -> tuple[str, ...]:
        """Return the demos that ``mask/<name>`` lists, in numeric order; all for None.

        Raises:
            InputError: there is no such list, it cannot be read, or it names no demo or one that
                is absent.
        """
        if name is None:
            return self._demos
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
