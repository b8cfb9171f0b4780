"""Arrays of HDF5 files from anywhere: whether their values can be read, and reading them.

HDF5 unpacks whatever a chunk holds before it looks at how much came out: three megabytes of gzip
make three gigabytes, and kilobytes any number where they were packed twice.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import zlib
from contextlib import AbstractContextManager
from typing import Any

import h5py
import numpy as np

from lfm_policy import errors
from lfm_policy.errors import InputError, brief

COPY_AGAIN = "the file is truncated or damaged; copy it again"
ONE_FILE = "expected all data in one file"

_NAME_BYTES = 1024
_FREE_CHUNK_BYTES = 64 * 2**20
"""A chunk is read whole, so it must not be larger than this or than the array is."""

_FREE_BYTES = 2**20
_MAX_EXPANSION = 10_000
"""An array may be this many times larger than what the file holds of it. That is more than gzip
gives (1,032); others pack a chunk of zeros into a few bytes, so `_FREE_BYTES` are granted to the
array and to each of its chunks."""

_DEFLATE, _SHUFFLE, _FLETCHER32, _SZIP = 1, 2, 3, 4
_OF_HDF5PLUGIN = {
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
}
"""Filters by their registered number, as far as the package hdf5plugin reads them."""

_CHECKSUM_BYTES = 4

_OVERHEAD_PART, _OVERHEAD_BYTES = 8, 4096
"""What a chunk that cannot be compressed takes besides its values: this part of them, and this."""

_LARGE_BYTES = 2**20
"""Chunks that are stored in more are unpacked piece by piece first; gzip makes at most 1,032 times
as much of the others."""

_PIECE_BYTES = 2**16


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
        layout = self._properties.get_layout()
        self._chunk = self._properties.get_chunk() if layout == h5py.h5d.CHUNKED else ()
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.void)
        self.problem = ""
        if layout == h5py.h5d.VIRTUAL or self._properties.get_external_count():
            self.problem = f"is stored in other files; {ONE_FILE}"
            return  # to ask for the shape may open the other files
        self.shape = tuple(h5py.Dataset(identifier).shape or ())
        try:
            self.dtype = identifier.dtype
        except Exception as error:
            self.problem = f"has a type that NumPy does not know ({brief(error)})"
            return
        self.problem = self._chunk_size_problem() or _missing_filter(self._properties)

    @property
    def chunk_rows(self) -> int:
        """Steps that one chunk holds; 0 of an array without chunks."""
        return int(self._chunk[0]) if self._chunk else 0

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
            chunks: list[tuple[tuple[int, ...], int]] = []
            if self._chunk:
                self._id.chunk_iter(lambda chunk: chunks.append((chunk.chunk_offset, chunk.size)))
        promised = self.n_bytes
        if promised and not stored:
            return (
                f"promises shape {self.shape}, but no values were ever written: the recording was "
                "interrupted; drop this demo"
            )
        if promised > _FREE_BYTES * (1 + len(chunks)) + _MAX_EXPANSION * stored:
            return (
                f"promises {promised:,} bytes (shape {self.shape}), more than {_MAX_EXPANSION:,} "
                f"times the {stored:,} bytes in the file, which cannot hold them: {COPY_AGAIN}"
            )
        packers = [n for n in self._filters() if n not in (_SHUFFLE, _FLETCHER32)]
        if len(packers) > 1:
            return (
                f"is compressed {len(packers)} times over (HDF5 filters {packers}), which can "
                "unpack to any size: write it again with one filter"
            )
        values = self._chunk_bytes
        most = values + values // _OVERHEAD_PART + _OVERHEAD_BYTES
        largest = max((size for _, size in chunks), default=0)
        if largest > most:
            return (
                f"has a chunk of {largest:,} bytes in the file, expected at most {most:,} for "
                f"{values:,} bytes of values: the file is damaged or made to fill the memory"
            )
        if packers == [_DEFLATE]:
            self._unseen = [offset for offset, size in chunks if size > _LARGE_BYTES]
        return ""

    def check(self) -> None:
        """Check that values can be read; nothing is read.

        Raises:
            ObjectRefused: they must not or cannot, or are not all in the file.
        """
        if reason := self.problem or ("" if self._checked else self.size_problem()):
            raise self._refused(reason)
        self._checked = True

    def read(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """Return numbers, all of them or the steps from ``begin`` to ``end``.

        Raises:
            InputError: they cannot be read, or are no numbers.
        """
        self.check()
        if self.dtype.kind not in "fiub" or not self.shape:
            raise self._refused(
                f"has dtype {self.dtype}, shape {self.shape}; expected rows of numbers"
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
            raise self._refused(self.problem)
        text, expected = h5py.check_string_dtype(self.dtype), "expected names of demos"
        if len(self.shape) != 1:
            raise self._refused(f"is no list (shape {self.shape}); {expected}")
        if text is None:
            raise self._refused(f"has dtype {self.dtype}; {expected}")
        if self.shape[0] > most:
            raise self._refused(f"lists {self.shape[0]:,} names; expected at most {most:,}")
        self.check()
        self._look_at_chunks(0, self.shape[0])
        dataset, names = h5py.Dataset(self._id), []
        longest = text.length or 0
        # One by one: any number of elements may share one long text.
        with reading(self.name):
            for position in range(self.shape[0]):
                if longest > _NAME_BYTES:
                    break
                names.append(dataset[position])
                longest = max(longest, len(names[-1]))
            if longest <= _NAME_BYTES:
                return [as_text(name) for name in names]
        raise self._refused(f"holds names of {longest:,} bytes; expected at most {_NAME_BYTES:,}")

    @property
    def _chunk_bytes(self) -> int:
        return math.prod(self._chunk) * self.dtype.itemsize

    def _filters(self) -> list[int]:
        properties = self._properties
        return [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]

    def _refused(self, reason: str) -> ObjectRefused:
        return ObjectRefused(self.name, reason)

    def _look_at_chunks(self, begin: int, end: int) -> None:
        """Check large chunks with steps from ``begin`` to ``end``, each of them once."""
        wanted = [o for o in self._unseen if o[0] < end and o[0] + self.chunk_rows > begin]
        for offset in wanted:
            with reading(self.name):
                problem = self._unpacked_problem(offset)
            if problem:
                raise self._refused(problem)
            self._unseen.remove(offset)

    def _unpacked_problem(self, offset: tuple[int, ...]) -> str:
        """Say why a gzip chunk must not be unpacked, to follow a name; ``""`` if it may."""
        skipped, content = self._id.read_direct_chunk(offset)
        if skipped >> self._filters().index(_DEFLATE) & 1:
            return ""
        # What lies inside the compression makes it longer by a checksum; what lies around it not.
        most = self._chunk_bytes + _CHECKSUM_BYTES
        unpacker, view, n_bytes = zlib.decompressobj(), memoryview(content), 0
        for begin in range(0, len(view), _PIECE_BYTES):
            piece: bytes | memoryview = view[begin : begin + _PIECE_BYTES]
            while len(piece) and n_bytes <= most:
                try:
                    n_bytes += len(unpacker.decompress(piece, _PIECE_BYTES))
                except zlib.error:
                    return ""  # for HDF5 to say
                piece = unpacker.unconsumed_tail
        if n_bytes <= most:
            return ""
        return (
            f"has a chunk at {offset} that unpacks to more than the {most:,} bytes of its values: "
            "the file is damaged or made to fill the memory"
        )

    def _chunk_size_problem(self) -> str:
        n_bytes = self._chunk_bytes
        if not self._chunk or n_bytes <= max(_FREE_CHUNK_BYTES, self.n_bytes):
            return ""
        return (
            f"has chunks of {n_bytes:,} bytes {tuple(self._chunk)} for {self.n_bytes:,} bytes "
            f"{self.shape}; expected chunks of at most {_FREE_CHUNK_BYTES:,} bytes or the size of "
            "the array: write it again with smaller ones"
        )


def _missing_filter(properties: h5py.h5p.PropDCID) -> str:
    """Say which filter of an array cannot be undone here, and what would; ``""`` if all can.

    The package hdf5plugin is imported where it is needed and installed.
    """
    for position in range(properties.get_nfilters()):
        number, _, _, stored_name = properties.get_filter(position)
        if _is_there(number):
            continue
        # What the file calls it is anybody's text.
        said = "".join(c for c in stored_name.decode("ascii", "replace") if c.isprintable())[:40]
        name = _OF_HDF5PLUGIN.get(number) or ("szip" if number == _SZIP else said) or "unnamed"
        cure = (
            "pip install hdf5plugin reads it"
            if number in _OF_HDF5PLUGIN
            else "write it again with a filter that HDF5 itself has, such as gzip"
        )
        return f"is compressed with HDF5 filter {number} ({name}), which is not installed: {cure}"
    return ""


def _is_there(number: int) -> bool:
    if not h5py.h5z.filter_avail(number):
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")  # registers its filters
    return bool(h5py.h5z.filter_avail(number))
