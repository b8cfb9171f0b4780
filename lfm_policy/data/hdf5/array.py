"""Arrays of HDF5 files from anywhere: whether their values can be read, and reading them."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

from lfm_policy.data.hdf5.chunks import missing_filter, stored_chunks, unpacked_problem
from lfm_policy.data.hdf5.errors import COPY_AGAIN, as_text, reading
from lfm_policy.errors import InputError, brief

_NAME_BYTES = 1024
_FREE_CHUNK_BYTES = 64 * 2**20
"""A chunk is read whole, so it must not be larger than this or than the array is."""

_FREE_BYTES = 2**20
_MAX_EXPANSION = 10_000
"""An array may be this many times larger than what the file holds of it. That is more than gzip
gives (1,032); others pack a chunk of zeros into a few bytes, so `_FREE_BYTES` are granted to the
array and to each of its chunks."""

ONE_FILE = "expected all data in one file"


class ObjectRefused(InputError):
    """An object of a file must not or cannot be used.

    Attributes:
        reason: what is wrong with it, to follow its name: ``"is a link into another file; …"``.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.reason = reason


class Hdf5Array:
    """An array of a file.

    Attributes:
        name: what messages call it; file and path, unless somebody knows better.
        shape: of the array; ``()`` of a single value and where it is not known.
        dtype: as it is stored; of kind V where NumPy has nothing like it.
        problem: why values must not or cannot be read, to follow a name; ``""`` if they can.
    """

    def __init__(self, identifier: h5py.h5d.DatasetID, name: str, file_bytes: int) -> None:
        self.name, self._id, self._file_bytes = name, identifier, file_bytes
        self._checked = False
        self._unseen: list[tuple[int, ...]] = []
        self._properties = identifier.get_create_plist()
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.void)
        self.problem = self._place_problem()
        if self.problem:
            return  # to ask for the shape may open the other files
        self.shape = tuple(h5py.Dataset(identifier).shape or ())
        try:
            self.dtype = identifier.dtype
        except Exception as error:
            self.problem = f"has a type that NumPy does not know ({brief(error)})"
            return
        self.problem = self._chunk_problem() or missing_filter(self._properties)

    @property
    def chunk_rows(self) -> int:
        """Steps that one chunk holds; 0 of an array without chunks."""
        chunked = self._properties.get_layout() == h5py.h5d.CHUNKED
        return int(self._properties.get_chunk()[0]) if chunked else 0

    @property
    def n_bytes(self) -> int:
        """Bytes of all values together, as the shape promises."""
        return math.prod(self.shape) * self.dtype.itemsize

    def size_problem(self) -> str:
        """Say why the file cannot hold what the shape promises, to follow a name; ``""`` if it can.

        Memory is taken for what is promised. What is stored has to be counted, which takes a while
        for many chunks.
        """
        with reading(self.name):
            stored = min(self._id.get_storage_size(), self._file_bytes)
            n_chunks, problem = 0, ""
            if self.chunk_rows:
                chunks = stored_chunks(self._id, self._properties, self.dtype.itemsize)
                n_chunks, problem, self._unseen = chunks.count, chunks.problem, chunks.large
        promised = self.n_bytes
        if promised and not stored:
            return (
                f"promises shape {self.shape}, but no values were ever written: the recording was "
                "interrupted; drop this demo"
            )
        if promised > _FREE_BYTES * (1 + n_chunks) + _MAX_EXPANSION * stored:
            return (
                f"promises {promised:,} bytes (shape {self.shape}), more than {_MAX_EXPANSION:,} "
                f"times the {stored:,} bytes in the file, which cannot hold them: {COPY_AGAIN}"
            )
        return problem

    def check(self) -> None:
        """Check that values can be read; nothing is read.

        Raises:
            ObjectRefused: they must not or cannot, or are not all in the file.
        """
        if reason := self.problem or ("" if self._checked else self.size_problem()):
            raise ObjectRefused(self.name, reason)
        self._checked = True

    def read(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Return numbers, all of them or the steps from ``begin`` to ``end``.

        Raises:
            InputError: they cannot be read, or are no numbers.
        """
        self.check()
        if self.dtype.kind not in "fiub" or not self.shape:
            raise ObjectRefused(
                self.name, f"has dtype {self.dtype}, shape {self.shape}; expected rows of numbers"
            )
        self._look_at_chunks(begin, self.shape[0] if end is None else end)
        with reading(self.name):
            values: np.ndarray = h5py.Dataset(self._id)[begin:end]
        return values

    def read_names(self, most: int) -> list[str]:
        """Return a list of names of demos.

        Args:
            most: how many there may be.

        Raises:
            InputError: it is no list of names, there are more or longer ones, or it cannot be read.
        """
        if self.problem:
            raise ObjectRefused(self.name, self.problem)
        if len(self.shape) != 1:
            raise ObjectRefused(
                self.name, f"is no list (shape {self.shape}); expected names of demos"
            )
        text = h5py.check_string_dtype(self.dtype)
        if text is None:
            raise ObjectRefused(self.name, f"has dtype {self.dtype}; expected names of demos")
        if self.shape[0] > most:
            raise ObjectRefused(
                self.name, f"lists {self.shape[0]:,} names; expected at most {most:,}"
            )
        self.check()
        self._look_at_chunks(0, self.shape[0])
        longest = text.length or 0
        values: Any = []
        if longest <= _NAME_BYTES:
            dataset = h5py.Dataset(self._id)
            with reading(self.name):
                if text.length is not None:
                    values = dataset[()]
                else:
                    # One by one: any number of elements may share one long text.
                    for position in range(self.shape[0]):
                        values.append(dataset[position])
                        longest = max(longest, len(values[-1]))
                        if longest > _NAME_BYTES:
                            break
        if longest > _NAME_BYTES:
            raise ObjectRefused(
                self.name, f"holds names of {longest:,} bytes; expected at most {_NAME_BYTES:,}"
            )
        with reading(self.name):
            return [as_text(value) for value in values]

    def _look_at_chunks(self, begin: int, end: int) -> None:
        """Check large chunks with steps from ``begin`` to ``end``, each of them once."""
        wanted = [o for o in self._unseen if o[0] < end and o[0] + self.chunk_rows > begin]
        for offset in wanted:
            with reading(self.name):
                problem = unpacked_problem(self._id, self._properties, self.dtype.itemsize, offset)
            if problem:
                raise ObjectRefused(self.name, problem)
            self._unseen.remove(offset)

    def _place_problem(self) -> str:
        is_virtual = self._properties.get_layout() == h5py.h5d.VIRTUAL
        if is_virtual or self._properties.get_external_count():
            return f"is stored in other files; {ONE_FILE}"
        return ""

    def _chunk_problem(self) -> str:
        if not self.chunk_rows:
            return ""
        chunk = self._properties.get_chunk()
        n_bytes = math.prod(chunk) * self.dtype.itemsize
        if n_bytes <= max(_FREE_CHUNK_BYTES, self.n_bytes):
            return ""
        return (
            f"has chunks of {n_bytes:,} bytes {tuple(chunk)} for {self.n_bytes:,} bytes "
            f"{self.shape}; expected chunks of at most {_FREE_CHUNK_BYTES:,} bytes or the size of "
            "the array: write it again with smaller ones"
        )
