"""The one way to what is in an HDF5 file: every object is opened here, and checked.

Files come from anywhere. A path is walked name by name, so that it never leaves the file; values
are read only from the file itself, and only as many as it can hold; lists and texts are bounded.

    with Hdf5File(path) as file:
        actions = file.root.find("data/demo_0/actions")
        if isinstance(actions, Hdf5Array) and not actions.problem:
            values = actions.read()
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lfm_policy.data.download.locations import where_to_get
from lfm_policy.data.hdf5.array import ONE_FILE, Hdf5Array, ObjectRefused, reading
from lfm_policy.errors import InputError, NoDatasetError, brief
from lfm_runtime.closing import Closing
from lfm_runtime.disk.files import exists, is_file

_MOST_LINKS, _MOST_STEPS = 16, 64
"""Soft links that one path may follow, and names that it may have with them."""

_MOST_OBJECTS, _DEEPEST = 10_000, 8
"""Of what `Hdf5Group.arrays` lists: groups may contain one another, and then there is no end."""

_VALUE_BYTES = 1024


class Hdf5File(Closing):
    """An open file.

    Attributes:
        path: where it is.
        n_bytes: its size.
        root: the group that holds everything.
    """

    def __init__(self, path: str | Path, expected: str = "HDF5") -> None:
        """Open a file for reading.

        Args:
            path: of the file.
            expected: what it should be, for messages.

        Raises:
            NoDatasetError: there is no such file.
            InputError: it is no HDF5 file.
        """
        self.path = Path(path).expanduser()
        if not exists(self.path):
            raise NoDatasetError(f"{path}: no such file; expected {expected}{where_to_get(path)}")
        if not is_file(self.path):
            raise InputError(f"{path}: is no regular file; expected {expected}")
        try:
            self._file = h5py.File(self.path, "r")
        except Exception as error:
            raise InputError(
                f"{path}: cannot be opened as HDF5 ({brief(error)}); expected {expected}. "
                "The file may be truncated (copy or download it again) or of another format"
            ) from error
        try:
            with reading(str(self.path)):
                self.n_bytes = self.path.stat().st_size
                self.root = Hdf5Group(self, h5py.h5g.open(self._file.id, b"/"), "")
                self._number = h5py.h5o.get_info(self.root.id).fileno
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file and everything that was opened in it."""
        self._file.close()

    def holds(self, identifier: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> bool:
        """Whether an open object is part of this file."""
        return bool(h5py.h5o.get_info(identifier).fileno == self._number)


class Hdf5Group:
    """A group of a file, its objects and its attributes.

    Attributes:
        id: the open group.
        name: file and path, for messages.
    """

    def __init__(self, file: Hdf5File, identifier: h5py.h5g.GroupID, path: str) -> None:
        self._file, self.id, self._path = file, identifier, path
        self.name = f"{file.path}: {path or '/'}"

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._file.path

    def names(self) -> tuple[str, ...]:
        """Return the names of what is in the group.

        Raises:
            InputError: they cannot be read.
        """
        with reading(self.name):
            return tuple(h5py.Group(self.id))

    def find(self, path: str) -> Hdf5Group | Hdf5Array | None:
        """Return what a path of names leads to; None if there is nothing.

        Soft links are followed inside the file.

        Raises:
            ObjectRefused: it leads out of the file, or nowhere because links lead to one another.
            InputError: it cannot be read.
        """
        full_path = f"{self._path}/{path}" if self._path else path
        name = f"{self._file.path}: {full_path}"
        with reading(name):
            found = self._walk(path.encode("utf-8", "surrogateescape"), name)
            if found is None:
                return None
            if isinstance(found, h5py.h5g.GroupID):
                return Hdf5Group(self._file, found, full_path)
            if isinstance(found, h5py.h5d.DatasetID):
                return Hdf5Array(found, name, self._file.n_bytes)
        raise ObjectRefused(name, "is neither a group nor an array")

    def arrays(self) -> Iterator[tuple[str, Hdf5Array | ObjectRefused]]:
        """Yield every array by its path inside this group, those of groups in it included.

        What must not be opened is yielded as the error that says why.

        Raises:
            InputError: there is no end of them, or a group cannot be read.
        """
        waiting, seen = [("", self)], 0
        while waiting:
            prefix, group = waiting.pop(0)
            for own_name in group.names():
                seen += 1
                if seen > _MOST_OBJECTS:
                    raise InputError(
                        f"{self.name} holds more than {_MOST_OBJECTS:,} groups and arrays, or "
                        "groups that hold themselves; expected the arrays of one demo"
                    )
                path = f"{prefix}{own_name}"
                try:
                    found = group.find(own_name)
                except ObjectRefused as refused:
                    yield path, refused
                    continue
                if isinstance(found, Hdf5Array):
                    yield path, found
                elif isinstance(found, Hdf5Group) and path.count("/") < _DEEPEST:
                    waiting.append((f"{path}/", found))

    def attributes(self) -> tuple[str, ...]:
        """Return the names of all attributes.

        Raises:
            InputError: they cannot be read.
        """
        with reading(self.name):
            return tuple(h5py.Group(self.id).attrs)

    def has_attribute(self, key: str) -> bool:
        """Whether there is an attribute of this name."""
        with reading(self.name):
            return key in h5py.Group(self.id).attrs

    def attribute(self, key: str, most_bytes: int = _VALUE_BYTES) -> Any:
        """Return an attribute: a number, a text, or a small array of numbers.

        Args:
            key: its name; it has to be there.
            most_bytes: how large it may be.

        Raises:
            InputError: it cannot be read, is larger, or something else.
        """
        name = f"{self.name}: attribute {key}"
        with reading(name):
            held = h5py.h5a.open(self.id, key.encode())
            n_bytes, n_values = held.get_type().get_size(), math.prod(held.shape or ())
            is_text = h5py.check_string_dtype(held.dtype) is not None
            if held.dtype.kind == "O" and not (is_text and n_values == 1):
                raise InputError(f"{name} has dtype {held.dtype}; expected a number or one text")
            if n_bytes * n_values > most_bytes:
                raise InputError(
                    f"{name} has {n_bytes * n_values:,} bytes; expected at most {most_bytes:,}"
                )
            value = h5py.Group(self.id).attrs[key]
        if is_text and n_values == 1 and isinstance(value, np.ndarray):
            value = value.item()
        if isinstance(value, str | bytes) and len(value) > most_bytes:
            raise InputError(
                f"{name} has {len(value):,} characters; expected at most {most_bytes:,}"
            )
        return value

    def copy_to(self, target: h5py.Group, name: str) -> None:
        """Copy the group with all that is in it into another file.

        Raises:
            InputError: something in it must not or cannot be read.
        """
        for _, array in self.arrays():
            if isinstance(array, ObjectRefused):
                raise array
            array.check()
        with reading(self.name):
            h5py.h5o.copy(self.id, b".", target.id, name.encode())

    def _walk(self, path: bytes, name: str) -> Any:
        """Return the object that a path leads to, by hard links and soft links alone."""
        here: Any = self.id
        steps, n_steps, n_links = _split(path), 0, 0
        while steps:
            step, n_steps = steps.pop(0), n_steps + 1
            if n_steps > _MOST_STEPS:
                raise ObjectRefused(name, f"is a path of more than {_MOST_STEPS} names")
            is_group = isinstance(here, h5py.h5g.GroupID)
            if not is_group or b"\0" in step or not here.links.exists(step):
                return None
            kind = here.links.get_info(step).type
            if kind == h5py.h5l.TYPE_HARD:
                here = h5py.h5o.open(here, step)
                if not self._file.holds(here):
                    raise ObjectRefused(name, f"is in another file; {ONE_FILE}")
            elif kind == h5py.h5l.TYPE_SOFT:
                n_links += 1
                if n_links > _MOST_LINKS:
                    raise ObjectRefused(
                        name, f"is a link that leads through more than {_MOST_LINKS} others"
                    )
                target = here.links.get_val(step)
                steps = [*_split(target), *steps]
                here = self._file.root.id if target.startswith(b"/") else here
            else:
                raise ObjectRefused(name, f"is a link into another file; {ONE_FILE}")
        return here


def _split(path: bytes) -> list[bytes]:
    return [step for step in path.split(b"/") if step and step != b"."]
