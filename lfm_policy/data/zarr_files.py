"""The files of a zarr store, without zarr: what is really there, and how large.

zarr itself fills chunks that are absent with the fill value and allocates what the metadata
says, so both are compared with the files before anything is read.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from lfm_policy.errors import InputError

_METADATA_NAMES = (".zarray", "zarr.json")

_CODECS = frozenset(
    {
        *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"),
        *("astype", "bitround", "bytes", "delta", "fixedscaleoffset", "packbits", "quantize"),
        *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
        *("sharding_indexed", "shuffle", "transpose"),
    }
)
"""Codecs that are read: none of them can run code, unlike for example ``pickle``."""

_BLOSC_HEADER = struct.Struct("<12xI")
"""Versions, flags, decoded length and block length, all passed over; then the encoded length."""

COPY_AGAIN = "the file is truncated or damaged; copy the store again"
"""What a message says of a chunk that cannot be decoded."""

_FREE_BYTES = 64 * 2**20
_MAX_EXPANSION = 10_000
"""An array may be this many times larger than its files (and the free bytes in any case). Blosc
with zstd packs even constant data no tighter, so only absurd metadata goes beyond."""


@dataclass(frozen=True)
class _File:
    stored: int
    """Bytes on disk."""
    unpacked: int
    """Bytes read from it: more than stored inside a compressed zip."""


class ZarrFiles:
    """Lists the files of a directory store or zip; names are relative, with forward slashes."""

    def __init__(self, path: Path) -> None:
        """Open the listing.

        Raises:
            InputError: nothing is there, or a file that is no zip.
        """
        self.path = path
        self._zip: dict[str, _File] | None = None
        if path.is_dir():
            return
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; expected a zarr replay buffer")
        try:
            with zipfile.ZipFile(path) as archive:
                self._zip = {
                    info.filename: _File(info.compress_size, info.file_size)
                    for info in archive.infolist()
                }
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(
                f"{path}: neither a folder nor a readable zip ({error}); expected a zarr directory "
                "store or .zarr.zip. The file may be truncated (copy or download it again) or of "
                "another format"
            ) from error

    @property
    def is_zip(self) -> bool:
        """Whether the store is a zip."""
        return self._zip is not None

    def array_names(self) -> tuple[str, ...]:
        """Return the paths inside the store that have the metadata of an array, sorted."""
        found = set()
        for entry in self._zip if self._zip is not None else _walk(self.path):
            folder, _, name = entry.rpartition("/")
            if folder and (
                name == ".zarray" or (name == "zarr.json" and not self._is_group(entry))
            ):
                found.add(folder)
        return tuple(sorted(found))

    def under(self, name: str) -> dict[str, _File]:
        """Return the files of one array by their name relative to it."""
        prefix = f"{name}/"
        if self._zip is not None:
            return {
                entry[len(prefix) :]: file
                for entry, file in self._zip.items()
                if entry.startswith(prefix)
            }
        files = {}
        for entry in _walk(self.path / name):
            size = (self.path / name / entry).stat().st_size
            files[entry] = _File(size, size)
        return files

    def heads(self, name: str, entries: Iterable[str], n_bytes: int) -> Iterator[bytes]:
        """Yield the first bytes of files of one array, given by their name relative to it."""
        if self._zip is None:
            for entry in entries:
                with (self.path / name / entry).open("rb") as file:
                    yield file.read(n_bytes)
        else:
            with zipfile.ZipFile(self.path) as archive:
                for entry in entries:
                    with archive.open(f"{name}/{entry}") as member:
                        yield member.read(n_bytes)

    def _is_group(self, entry: str) -> bool:
        """Whether a v3 ``zarr.json`` is that of a group; what does not parse counts as array."""
        try:
            if self._zip is None:
                text = (self.path / entry).read_bytes()
            else:
                with zipfile.ZipFile(self.path) as archive:
                    text = archive.read(entry)
            return json.loads(text).get("node_type") == "group"
        except (OSError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error):
            return False


def _walk(folder: Path) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        relative = Path(root).relative_to(folder).as_posix()
        for name in names:
            yield name if relative == "." else f"{relative}/{name}"


def check_codecs(array: zarr.Array, source: str) -> None:
    """Check that only codecs that decode plain data would run.

    Raises:
        InputError: another codec is named.
    """
    for name in _all_codecs(array.metadata.to_dict()):
        if name not in _CODECS:
            raise InputError(
                f"{source}: the codec '{name}' is not read here; rewrite the array with Blosc, "
                f"zstd or gzip (known: {', '.join(sorted(_CODECS))})"
            )


def _codecs(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the codecs of v2 or v3 metadata in the order in which they encode."""
    if "codecs" in metadata:
        return list(metadata["codecs"])
    return [codec for codec in (*(metadata["filters"] or ()), metadata["compressor"]) if codec]


def _codec_name(codec: Mapping[str, Any]) -> str:
    return str(codec.get("id", codec.get("name"))).removeprefix("numcodecs.")


def _all_codecs(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs, those inside shards included."""
    for codec in _codecs(metadata):
        yield _codec_name(codec)
        inner = codec.get("configuration", {})
        if "codecs" in inner:
            yield from _all_codecs(inner)
            yield from map(_codec_name, inner.get("index_codecs", ()))


def chunk_grid(array: zarr.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (number of chunk files per dimension, shape of what one file holds)."""
    chunks = array.shards or array.chunks
    return tuple(-(-n // c) for n, c in zip(array.shape, chunks, strict=True)), chunks


def chunk_coordinates(grid: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield all coordinates of a grid, without memory for it: the grid may be absurd."""
    for number in range(math.prod(grid)):
        coordinates = []
        for n in reversed(grid):
            number, coordinate = divmod(number, n)
            coordinates.append(coordinate)
        yield tuple(reversed(coordinates))


def check_chunks(array: zarr.Array, files: ZarrFiles, name: str, source: str) -> None:
    """Check that every chunk is there, whole, and that the sizes promised are plausible.

    Takes time and memory in proportion to the files, whatever the metadata says.

    Args:
        array: the array, opened.
        files: of its store.
        name: path of the array inside the store.
        source: for messages.

    Raises:
        InputError: a chunk is absent or cut, or decoding would need absurd memory.
    """
    if min(array.shards or array.chunks, default=1) < 1:
        raise InputError(f"{source}: chunks {array.chunks} are impossible: the metadata is damaged")
    grid, chunk_shape = chunk_grid(array)
    expected = math.prod(grid)
    there = files.under(name)
    chunks: dict[str, _File] = {}
    for coordinates in chunk_coordinates(grid):
        key = array.metadata.encode_chunk_key(coordinates)
        if key not in there:
            present = sum(_is_chunk(entry) for entry in there)
            raise InputError(
                f"{source}: its metadata promises shape {array.shape} in {expected} chunks, but "
                f"chunk {key} is absent ({present} chunks are there). Copy the store again; if it "
                "was written without empty chunks, write it with "
                "zarr.config.set({'array.write_empty_chunks': True})"
            )
        chunks[key] = there[key]
        if not chunks[key].unpacked:
            raise InputError(f"{source}: chunk {key} cannot be decoded (it is empty): {COPY_AGAIN}")

    stored = sum(chunk.stored for chunk in chunks.values())
    chunk_bytes = math.prod(chunk_shape) * array.dtype.itemsize
    decoded = max(expected * chunk_bytes, sum(chunk.unpacked for chunk in chunks.values()))
    if decoded > _FREE_BYTES + _MAX_EXPANSION * stored:
        raise InputError(
            f"{source}: its metadata promises {decoded:,} bytes (shape {array.shape}, chunks "
            f"{chunk_shape}), which its {stored:,} bytes of files cannot hold: the metadata is "
            "damaged"
        )
    codecs = _codecs(array.metadata.to_dict())
    if codecs and _codec_name(codecs[-1]) == "blosc":
        heads = files.heads(name, tuple(chunks), _BLOSC_HEADER.size)
        for (key, chunk), head in zip(chunks.items(), heads, strict=True):
            _check_blosc(head, chunk, f"{source}: chunk {key}")


def _check_blosc(head: bytes, chunk: _File, source: str) -> None:
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


def _is_chunk(name: str) -> bool:
    return name.rpartition("/")[2] not in (*_METADATA_NAMES, ".zattrs", ".zgroup")
