"""Compressed arrays of HDF5 files from anywhere: who can read them, and how much comes out.

HDF5 unpacks whatever a chunk holds before it looks at how much came out: three megabytes of gzip
make three gigabytes, and kilobytes any number where they were packed twice.
"""

from __future__ import annotations

import importlib
import math
import zlib
from dataclasses import dataclass

import h5py

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_CHECKSUM_BYTES = 4

_SZIP = 4
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

_OVERHEAD_PART, _OVERHEAD_BYTES = 8, 4096
"""What a chunk that cannot be compressed takes besides its values: this part of them, and this."""

_LARGE_BYTES = 2**20
"""Chunks that are stored in more are unpacked piece by piece first; gzip makes at most 1,032 times
as much of the others."""

_PIECE_BYTES = 2**16


@dataclass
class StoredChunks:
    """The chunks of an array as they are stored.

    Attributes:
        count: how many there are.
        problem: why they must not be unpacked, to follow a name; ``""`` if they may.
        large: where those begin that have to be looked at one by one, see `unpacked_problem`.
    """

    count: int
    problem: str
    large: list[tuple[int, ...]]


def stored_chunks(
    identifier: h5py.h5d.DatasetID, properties: h5py.h5p.PropDCID, item_bytes: int
) -> StoredChunks:
    """Look at the size of every chunk, and at how they are compressed; nothing is unpacked.

    Args:
        identifier: an open array with chunks.
        properties: those with which it was created.
        item_bytes: of one value.
    """
    packers = _packers(properties)
    chunk_bytes = math.prod(properties.get_chunk()) * item_bytes
    most = chunk_bytes + chunk_bytes // _OVERHEAD_PART + _OVERHEAD_BYTES
    sizes: list[tuple[tuple[int, ...], int]] = []
    identifier.chunk_iter(lambda chunk: sizes.append((chunk.chunk_offset, chunk.size)))
    problem = ""
    if len(packers) > 1:
        problem = (
            f"is compressed {len(packers)} times over (HDF5 filters {packers}), which can unpack "
            "to any size: write it again with one filter"
        )
    elif largest := max((size for _, size in sizes if size > most), default=0):
        problem = (
            f"has a chunk of {largest:,} bytes in the file, expected at most {most:,} for "
            f"{chunk_bytes:,} bytes of values: the file is damaged or made to fill the memory"
        )
    large = [offset for offset, size in sizes if packers == [_DEFLATE] and size > _LARGE_BYTES]
    return StoredChunks(len(sizes), problem, large)


def unpacked_problem(
    identifier: h5py.h5d.DatasetID,
    properties: h5py.h5p.PropDCID,
    item_bytes: int,
    offset: tuple[int, ...],
) -> str:
    """Say why a gzip chunk must not be unpacked, to follow a name; ``""`` if it may.

    Args:
        identifier: an open array with chunks.
        properties: those with which it was created.
        item_bytes: of one value.
        offset: where the chunk begins.
    """
    filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    skipped, content = identifier.read_direct_chunk(offset)
    if skipped >> filters.index(_DEFLATE) & 1:
        return ""
    # What lies inside the compression makes it longer by a checksum; what lies around it does not.
    most = math.prod(properties.get_chunk()) * item_bytes + _CHECKSUM_BYTES
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
        f"has a chunk at {offset} that unpacks to more than the {most:,} bytes of its values: the "
        "file is damaged or made to fill the memory"
    )


def _packers(properties: h5py.h5p.PropDCID) -> list[int]:
    """Return the filters whose result may be larger than what went in, by number."""
    numbers = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    return [number for number in numbers if number not in (_SHUFFLE, _FLETCHER32)]


def missing_filter(properties: h5py.h5p.PropDCID) -> str:
    """Say which filter of an array cannot be undone here, and what would; ``""`` if all can.

    The package hdf5plugin is imported where it is needed and installed.

    Args:
        properties: those with which the array was created.
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
    if h5py.h5z.filter_avail(number):
        return True
    try:
        importlib.import_module("hdf5plugin")  # registers its filters
    except ImportError:
        return False
    return bool(h5py.h5z.filter_avail(number))
