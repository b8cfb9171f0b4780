"""The chunks of a zarr array: which are there, and whether they can be what the metadata says.

zarr itself fills chunks that are absent with the fill value and allocates what the metadata says,
so both are compared with the files before anything is read.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ShardingCodec

from lfm_policy.data.zarr.codecs import last_codec
from lfm_policy.data.zarr.files import StoredFile
from lfm_policy.data.zarr.guarded import GuardedArray
from lfm_policy.errors import InputError, reading

COPY_AGAIN = "the file is truncated or damaged; copy the store again"
"""What a message says of a chunk that cannot be decoded."""

_BLOSC_HEADER = struct.Struct("<12xI")
"""Versions, flags, decoded length and block length, all passed over; then the encoded length."""

_FREE_BYTES = 64 * 2**20
_MAX_EXPANSION = 10_000
"""An array may be this many times larger than its files (and the free bytes in any case). Blosc
with zstd packs even constant data no tighter, so only absurd metadata goes beyond."""

_FREE_CHUNK_BYTES = 2**20
_MAX_ENCODED = 16
"""A chunk's file may be this many times larger than its values (and the free bytes in any case):
a filter may store a byte as a float64."""

_MOST_CHUNKS = 50_000_000

_INDEX_ENTRY_BYTES = 16
_CHECKSUM_BYTES = 4
_NOT_THERE = 2**64 - 1
"""Offset and length, in the index of a shard, of a chunk that is not there."""


@dataclass(frozen=True)
class OpenedArray:
    """An array of a store, of numbers and with codecs that are read; no value was read yet.

    Attributes:
        name: path inside the store.
        source: store and name, for messages.
        array: zarr's view of it.
        files: its files.
        metadata: as JSON.
    """

    name: str
    source: str
    array: zarr.Array
    files: GuardedArray
    metadata: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(int(size) for size in self.array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of its values."""
        return np.dtype(self.array.dtype)

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Shape of what one file holds: a chunk, or a shard of several."""
        return tuple(self.array.shards or self.array.chunks)

    def key(self, coordinates: tuple[int, ...]) -> str:
        """Return the name of a chunk's file."""
        return str(self.array.metadata.encode_chunk_key(coordinates))

    def chunk_name(self, coordinates: tuple[int, ...]) -> str:
        """Return what messages call a chunk."""
        return f"chunk {self.key(coordinates)}"

    def first_damaged(self) -> str:
        """Return what messages call the first chunk that cannot be decoded."""
        for coordinates in np.ndindex(_grid(self.shape, self.file_shape)):
            try:
                self.array[_region(coordinates, self.file_shape)]
            except Exception:
                return self.chunk_name(coordinates)
        return "a chunk"


@dataclass(frozen=True)
class Chunks:
    """Which chunks of an array are there.

    Attributes:
        of: the array.
        present: (chunks per dimension) bool; the parts of a shard count as chunks.
    """

    of: OpenedArray
    present: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one chunk."""
        return tuple(self.of.array.chunks)

    @property
    def n_steps(self) -> int:
        """Length of the array."""
        return self.of.shape[0]

    @property
    def n_absent(self) -> int:
        """Number of chunks that are not there."""
        return int(self.present.size - np.count_nonzero(self.present))

    @property
    def end(self) -> int:
        """The step from which on no chunk is there; 0 where none is at all."""
        rows = np.flatnonzero(self.present.any(axis=tuple(range(1, self.present.ndim))))
        return min(self.n_steps, (int(rows[-1]) + 1) * self.shape[0]) if len(rows) else 0


def find_chunks(opened: OpenedArray) -> Chunks:
    """Find out which chunks are there, whole, and that the sizes promised are plausible.

    Takes time and memory in proportion to the files, whatever the metadata says.

    Raises:
        InputError: a chunk is cut or no regular file, or decoding would need absurd memory.
    """
    array, source = opened.array, opened.source
    if min(opened.file_shape, default=1) < 1:
        raise InputError(f"{source}: chunks {array.chunks} are impossible: the metadata is damaged")
    stored = _stored_chunks(opened)
    chunk_bytes = math.prod(opened.file_shape) * opened.dtype.itemsize
    most = _FREE_CHUNK_BYTES + _MAX_ENCODED * chunk_bytes
    for coordinates, file in stored.items():
        chunk = f"{source}: {opened.chunk_name(coordinates)}"
        if file.problem:
            raise InputError(f"{chunk} {file.problem}")
        if not file.unpacked:
            raise InputError(f"{chunk} cannot be decoded (it is empty): {COPY_AGAIN}")
        if file.unpacked > most:
            raise InputError(
                f"{chunk} has {file.unpacked:,} bytes, expected at most {most:,} for "
                f"{chunk_bytes:,} bytes of values: the file is no chunk of this array, or the "
                "metadata is damaged"
            )
    _check_total(opened, list(stored.values()), chunk_bytes)
    if last_codec(opened.metadata) == "blosc":
        for coordinates, file in stored.items():
            _check_blosc(opened, coordinates, file)
    present = np.zeros(_grid(array.shape, array.chunks), bool)
    for coordinates, file in stored.items():
        if array.shards is None:
            present[coordinates] = True
            continue
        there = _parts_of_shard(opened, coordinates, file)
        region = _region(coordinates, there.shape)
        # less than a shard at the edges
        present[region] = there[tuple(slice(n) for n in present[region].shape)]
    return Chunks(opened, present)


def _read(opened: OpenedArray, coordinates: tuple[int, ...], begin: int, end: int) -> bytes:
    chunk = f"{opened.source}: {opened.chunk_name(coordinates)}"
    with reading(f"{chunk} cannot be decoded", COPY_AGAIN):
        return opened.files.read(opened.key(coordinates), begin, end) or b""


def _grid(shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))


def _region(coordinates: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(c * n, (c + 1) * n) for c, n in zip(coordinates, shape, strict=True))


def _stored_chunks(opened: OpenedArray) -> dict[tuple[int, ...], StoredFile]:
    """Return the files that are chunks by their coordinates, in order."""
    grid, found = _grid(opened.shape, opened.file_shape), {}
    for key, file in opened.files.listed.items():
        numbers = re.findall(r"\d{1,18}", key)
        coordinates = tuple(map(int, numbers[-len(grid) :] if grid else ()))
        if (
            len(coordinates) == len(grid)
            and all(c < n for c, n in zip(coordinates, grid, strict=True))
            and opened.key(coordinates) == key
        ):
            found[coordinates] = file
    return dict(sorted(found.items()))


def _check_total(opened: OpenedArray, stored: list[StoredFile], chunk_bytes: int) -> None:
    array = opened.array
    stored_bytes = sum(file.stored for file in stored)
    decoded = max(
        math.prod(array.shape) * array.dtype.itemsize,
        len(stored) * chunk_bytes,
        sum(file.unpacked for file in stored),
    )
    n_chunks = math.prod(_grid(array.shape, array.chunks))
    if decoded > _FREE_BYTES + _MAX_EXPANSION * stored_bytes or n_chunks > _MOST_CHUNKS:
        raise InputError(
            f"{opened.source}: its metadata promises {decoded:,} bytes (shape {array.shape}, "
            f"chunks {opened.file_shape}), which its {stored_bytes:,} bytes of files cannot hold: "
            "the metadata is damaged"
        )


def _check_blosc(opened: OpenedArray, coordinates: tuple[int, ...], chunk: StoredFile) -> None:
    """Compare the lengths in a Blosc header with the file.

    Blosc trusts its header: from a chunk that was cut it decodes whatever follows in memory.
    """
    head = _read(opened, coordinates, 0, _BLOSC_HEADER.size)
    if len(head) == _BLOSC_HEADER.size:
        (length,) = _BLOSC_HEADER.unpack(head)
        if length == chunk.unpacked:
            return
        promised = f"{length:,} bytes"
    else:
        promised = f"a header of {_BLOSC_HEADER.size} bytes"
    raise InputError(
        f"{opened.source}: {opened.chunk_name(coordinates)} cannot be decoded (Blosc promises "
        f"{promised}, the file has {chunk.unpacked:,}): {COPY_AGAIN}"
    )


def _parts_of_shard(
    opened: OpenedArray, coordinates: tuple[int, ...], file: StoredFile
) -> np.ndarray:
    """Read from the index of a shard which of its parts are there."""
    (codec,) = opened.array.metadata.codecs
    assert isinstance(codec, ShardingCodec)
    there = np.ones(_grid(opened.file_shape, opened.array.chunks), bool)
    kinds = {type(inner).__name__ for inner in codec.index_codecs}
    size = there.size * _INDEX_ENTRY_BYTES
    tail = _CHECKSUM_BYTES if "Crc32cCodec" in kinds else 0
    chunk = f"{opened.source}: {opened.chunk_name(coordinates)}"
    if size + tail > file.unpacked:
        raise InputError(
            f"{chunk} cannot be decoded (its index alone takes {size + tail:,} bytes, the file has "
            f"{file.unpacked:,}): {COPY_AGAIN}"
        )
    if kinds not in ({"BytesCodec"}, {"BytesCodec", "Crc32cCodec"}):
        return there  # nothing else is written
    begin = 0 if codec.index_location.value == "start" else file.unpacked - size - tail
    index = np.frombuffer(_read(opened, coordinates, begin, begin + size), "<u8")
    if index.size != 2 * there.size:
        raise InputError(f"{chunk} cannot be decoded (cut): {COPY_AGAIN}")
    return np.asarray((index.reshape(*there.shape, 2) != _NOT_THERE).any(axis=-1))
