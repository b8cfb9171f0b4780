"""The chunks of a zarr array: which are there, and whether they can be what the metadata says.

zarr itself fills chunks that are absent with the fill value and allocates what the metadata says,
so both are compared with the files before anything is read.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
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
class Chunks:
    """Which chunks of an array are there.

    Attributes:
        present: (chunks per dimension) bool.
        shape: of one chunk; the parts of a shard count as chunks.
        n_steps: length of the array.
    """

    present: np.ndarray
    shape: tuple[int, ...]
    n_steps: int

    @property
    def n_absent(self) -> int:
        """Number of chunks that are not there."""
        return int(self.present.size - np.count_nonzero(self.present))

    @property
    def end(self) -> int:
        """The step from which on no chunk is there; 0 where none is at all."""
        rows = np.flatnonzero(self.present.any(axis=tuple(range(1, self.present.ndim))))
        return min(self.n_steps, (int(rows[-1]) + 1) * self.shape[0]) if len(rows) else 0


def chunk_grid(array: zarr.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (number of chunk files per dimension, shape of what one file holds)."""
    chunks = array.shards or array.chunks
    return _grid(array.shape, chunks), chunks


def chunk_coordinates(grid: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all coordinates of a grid, without memory for it: the grid may be absurd."""
    for number in range(math.prod(grid)):
        coordinates = []
        for n in reversed(grid):
            number, coordinate = divmod(number, n)
            coordinates.append(coordinate)
        yield tuple(reversed(coordinates))


def find_chunks(
    array: zarr.Array, files: GuardedArray, metadata: Mapping[str, Any], source: str
) -> Chunks:
    """Find out which chunks are there, whole, and that the sizes promised are plausible.

    Takes time and memory in proportion to the files, whatever the metadata says.

    Args:
        array: the array, opened.
        files: its files.
        metadata: of the array, as JSON.
        source: for messages.

    Raises:
        InputError: a chunk is cut or no regular file, or decoding would need absurd memory.
    """
    if min(array.shards or array.chunks, default=1) < 1:
        raise InputError(f"{source}: chunks {array.chunks} are impossible: the metadata is damaged")
    grid, shape = chunk_grid(array)
    stored = _stored_chunks(array, files, grid)
    for coordinates, file in stored.items():
        chunk = f"{source}: chunk {array.metadata.encode_chunk_key(coordinates)}"
        if file.problem:
            raise InputError(f"{chunk} {file.problem}")
        if not file.unpacked:
            raise InputError(f"{chunk} cannot be decoded (it is empty): {COPY_AGAIN}")
        _check_size(file, math.prod(shape) * array.dtype.itemsize, chunk)
    _check_total(array, grid, shape, list(stored.values()), source)
    if last_codec(metadata) == "blosc":
        for coordinates, file in stored.items():
            key = array.metadata.encode_chunk_key(coordinates)
            head = _read(files, key, 0, _BLOSC_HEADER.size, source)
            _check_blosc(head, file, f"{source}: chunk {key}")
    if array.shards is not None:
        return _parts_of_shards(array, files, stored, source)
    present = np.zeros(grid, bool)
    for coordinates in stored:
        present[coordinates] = True
    return Chunks(present, tuple(array.chunks), array.shape[0])


def _read(files: GuardedArray, key: str, begin: int, end: int, source: str) -> bytes:
    with reading(f"{source}: chunk {key} cannot be decoded", COPY_AGAIN):
        return files.read(key, begin, end) or b""


def _grid(shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))


def _stored_chunks(
    array: zarr.Array, files: GuardedArray, grid: tuple[int, ...]
) -> dict[tuple[int, ...], StoredFile]:
    """Return the files that are chunks by their coordinates, in order."""
    found = {}
    for key, file in files.listed.items():
        numbers = re.findall(r"\d{1,18}", key)
        coordinates = tuple(map(int, numbers[-len(grid) :] if grid else ()))
        if (
            len(coordinates) == len(grid)
            and all(c < n for c, n in zip(coordinates, grid, strict=True))
            and array.metadata.encode_chunk_key(coordinates) == key
        ):
            found[coordinates] = file
    return dict(sorted(found.items()))


def _check_size(file: StoredFile, chunk_bytes: int, chunk: str) -> None:
    most = _FREE_CHUNK_BYTES + _MAX_ENCODED * chunk_bytes
    if file.unpacked > most:
        raise InputError(
            f"{chunk} has {file.unpacked:,} bytes, expected at most {most:,} for {chunk_bytes:,} "
            "bytes of values: the file is no chunk of this array, or the metadata is damaged"
        )


def _check_total(
    array: zarr.Array,
    grid: tuple[int, ...],
    shape: tuple[int, ...],
    stored: list[StoredFile],
    source: str,
) -> None:
    stored_bytes = sum(file.stored for file in stored)
    chunk_bytes = math.prod(shape) * array.dtype.itemsize
    decoded = max(
        math.prod(array.shape) * array.dtype.itemsize,
        len(stored) * chunk_bytes,
        sum(file.unpacked for file in stored),
    )
    n_chunks = math.prod(_grid(array.shape, array.chunks))
    if decoded > _FREE_BYTES + _MAX_EXPANSION * stored_bytes or n_chunks > _MOST_CHUNKS:
        raise InputError(
            f"{source}: its metadata promises {decoded:,} bytes (shape {array.shape}, chunks "
            f"{shape}), which its {stored_bytes:,} bytes of files cannot hold: the metadata is "
            "damaged"
        )


def _check_blosc(head: bytes, chunk: StoredFile, source: str) -> None:
    """Compare the lengths in a Blosc header with the file.

    Blosc trusts its header: from a chunk that was cut it decodes whatever follows in memory.
    """
    if len(head) == _BLOSC_HEADER.size:
        (length,) = _BLOSC_HEADER.unpack(head)
        if length == chunk.unpacked:
            return
        promised = f"{length:,} bytes"
    else:
        promised = f"a header of {_BLOSC_HEADER.size} bytes"
    raise InputError(
        f"{source} cannot be decoded (Blosc promises {promised}, the file has "
        f"{chunk.unpacked:,}): {COPY_AGAIN}"
    )


def _parts_of_shards(
    array: zarr.Array,
    files: GuardedArray,
    stored: Mapping[tuple[int, ...], StoredFile],
    source: str,
) -> Chunks:
    """Read from the index of every shard which of its parts are there."""
    (codec,) = array.metadata.codecs
    assert isinstance(codec, ShardingCodec)
    per_shard = _grid(array.shards, array.chunks)
    kinds = {type(inner).__name__ for inner in codec.index_codecs}
    readable = kinds in ({"BytesCodec"}, {"BytesCodec", "Crc32cCodec"})  # nothing else is written
    size = math.prod(per_shard) * _INDEX_ENTRY_BYTES
    tail = _CHECKSUM_BYTES if "Crc32cCodec" in kinds else 0
    present = np.zeros(_grid(array.shape, array.chunks), bool)
    for coordinates, file in stored.items():
        key = array.metadata.encode_chunk_key(coordinates)
        if size + tail > file.unpacked:
            raise InputError(
                f"{source}: chunk {key} cannot be decoded (its index alone takes {size + tail:,} "
                f"bytes, the file has {file.unpacked:,}): {COPY_AGAIN}"
            )
        there = np.ones(per_shard, bool)
        if readable:
            begin = 0 if codec.index_location.value == "start" else file.unpacked - size - tail
            index = np.frombuffer(_read(files, key, begin, begin + size, source), "<u8")
            if index.size != 2 * there.size:
                raise InputError(f"{source}: chunk {key} cannot be decoded (cut): {COPY_AGAIN}")
            there = (index.reshape(*per_shard, 2) != _NOT_THERE).any(axis=-1)
        region = tuple(
            slice(c * n, (c + 1) * n) for c, n in zip(coordinates, per_shard, strict=True)
        )
        room = present[region].shape  # less than a shard at the edges
        present[region] = there[tuple(slice(n) for n in room)]
    return Chunks(present, tuple(array.chunks), array.shape[0])
