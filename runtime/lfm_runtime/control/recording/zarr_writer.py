"""Arrays in zarr's format v2, row after row, with nothing but numpy and zlib.

A robot's computer need not have zarr to write what zarr reads. The disk may be full at any moment:
what was appended before can then still be made a store.
"""

from __future__ import annotations

import json
import math
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_CHUNK_BYTES = 2**20
_LEVEL = 1


class ArrayWriter:
    """One array of growing length; complete when `finish` has been called.

    The rows of the last chunk are in memory until it is full.
    """

    def __init__(
        self, folder: Path, row_shape: tuple[int, ...], dtype: np.dtype, *, fill_value: float = 0
    ) -> None:
        """Create the folder of the array.

        Args:
            folder: must not exist.
            row_shape: shape of one row.
            dtype: of the numbers.
            fill_value: what stands where there is no row, and no number of a row; 0 or NaN.
        """
        folder.mkdir(parents=True)
        self._folder = folder
        self._dtype = dtype.newbyteorder("<")
        row_bytes = max(math.prod(row_shape) * dtype.itemsize, 1)
        rows = max(1, min(4096, _CHUNK_BYTES // row_bytes))
        self._fill_value = fill_value
        self._chunk = np.full((rows, *row_shape), fill_value, dtype=self._dtype)
        self._length = 0
        self._written = 0

    def __len__(self) -> int:
        """Return how many rows were appended; the last one may not be on the disk."""
        return self._length

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self._chunk.shape[1:]

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk, which may be in memory only."""
        return self._chunk.nbytes

    @property
    def rows_on_disk(self) -> int:
        """How many rows are in chunks that have been written."""
        return self._written * len(self._chunk)

    def check(self, row: np.ndarray) -> None:
        """Check that a row can be appended.

        Raises:
            ValueError: it has another shape than the first one.
        """
        if row.shape != self.row_shape:
            raise ValueError(
                f"{self._folder}: a row has shape {row.shape}, the first one had {self.row_shape}"
            )

    def append(self, row: Any) -> None:
        """Add one row.

        Raises:
            ValueError: it has another shape.
            OSError: a chunk cannot be written; its rows stay in memory, and `finish` tries again.
        """
        row = np.asarray(row)
        self.check(row)
        rows = len(self._chunk)
        self._chunk[self._length % rows] = row
        self._length += 1
        if self._length % rows == 0:
            self._write()

    def widened(self, row_shape: tuple[int, ...]) -> ArrayWriter:
        """Return a writer of larger rows in the place of this one, with what it has so far.

        Raises:
            OSError: it cannot be written; this writer is as it was.
        """
        beside = self._folder.with_name(f"{self._folder.name}.wider")
        wider = ArrayWriter(beside, row_shape, self._dtype, fill_value=self._fill_value)
        try:
            for row in self._rows():
                wider.append(padded(row, row_shape, self._fill_value))
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        shutil.rmtree(self._folder)
        beside.rename(self._folder)
        wider._folder = self._folder
        return wider

    def finish(self, length: int | None = None) -> None:
        """Write the last chunk and the metadata.

        Args:
            length: keep so many of the rows that were appended; None: all of them.

        Raises:
            OSError: something cannot be written.
        """
        length = self._length if length is None else length
        rows = len(self._chunk)
        if length > self.rows_on_disk:
            self._chunk[length - self.rows_on_disk :] = self._fill_value
            self._write()
        for number in range(-(-length // rows), self._written):
            self._path(number).unlink(missing_ok=True)
        metadata = {
            "zarr_format": 2,
            "shape": [length, *self.row_shape],
            "chunks": list(self._chunk.shape),
            "dtype": self._dtype.str,
            "compressor": {"id": "zlib", "level": _LEVEL},
            "fill_value": "NaN" if np.isnan(self._fill_value) else self._fill_value,
            "order": "C",
            "filters": None,
        }
        write_json(self._folder / ".zarray", metadata)

    def _write(self) -> None:
        path = self._path(self._written)
        write_bytes(path, zlib.compress(self._chunk.tobytes(), _LEVEL))
        self._written += 1

    def _path(self, number: int) -> Path:
        return self._folder / ".".join([str(number), *("0" for _ in self.row_shape)])

    def _rows(self) -> Iterator[np.ndarray]:
        for number in range(self._written):
            stored = zlib.decompress(self._path(number).read_bytes())
            yield from np.frombuffer(stored, self._dtype).reshape(self._chunk.shape)
        yield from self._chunk[: self._length - self._written * len(self._chunk)]


class TableWriter:
    """Arrays of one length, which grow together: a row has one entry for each.

    Args:
        folder: of the store.
        padded: array whose rows may differ in their first size; shorter ones end with NaN.
    """

    def __init__(self, folder: Path, *, padded: str = "") -> None:
        self._folder = folder
        self._padded = padded
        self._writers: dict[str, ArrayWriter] = {}
        self._length = 0

    def __len__(self) -> int:
        """Return how many whole rows were appended."""
        return self._length

    @property
    def rows_on_disk(self) -> int:
        """How many rows can be kept where nothing but metadata can be written any more."""
        return min(self._length, *(writer.rows_on_disk for writer in self._writers.values()))

    @property
    def buffered_bytes(self) -> int:
        """The most that may be in memory only."""
        return sum(writer.chunk_bytes for writer in self._writers.values())

    def append(self, row: dict[str, Any]) -> None:
        """Add one row: names of arrays, such as ``data/action``, and their entries.

        Raises:
            ValueError: it has other names or shapes than the first one; it was not added.
            OSError: a chunk cannot be written; the row was not added.
        """
        entries = {name: np.asarray(value) for name, value in row.items()}
        if not self._length and not self._writers:
            for name, value in entries.items():
                fill = np.nan if name == self._padded else 0
                self._writers[name] = ArrayWriter(
                    self._folder / name, value.shape, value.dtype, fill_value=fill
                )
        if entries.keys() != self._writers.keys():
            raise ValueError(
                f"a row has {sorted(entries)}, the first one had {sorted(self._writers)}"
            )
        if self._padded:
            entries[self._padded] = self._fit(entries[self._padded])
        for name, writer in self._writers.items():
            writer.check(entries[name])
        for name, writer in self._writers.items():
            writer.append(entries[name])
        self._length += 1

    def finish(self, length: int) -> None:
        """Write what is left, and the metadata.

        Args:
            length: keep so many rows.

        Raises:
            OSError: something cannot be written. `rows_on_disk` rows may be finished all the same.
        """
        self._length = length
        for writer in self._writers.values():
            writer.finish(length)

    def _fit(self, value: np.ndarray) -> np.ndarray:
        writer = self._writers[self._padded]
        shape = writer.row_shape
        if value.ndim != len(shape) or value.shape[1:] != shape[1:]:
            return value  # `check` says what is wrong
        if len(value) > shape[0]:
            self._writers[self._padded] = writer.widened(value.shape)
        return padded(value, self._writers[self._padded].row_shape, np.nan)


def padded(value: np.ndarray, shape: tuple[int, ...], fill_value: float) -> np.ndarray:
    """Return an array with its first size made larger, the new numbers being ``fill_value``."""
    if value.shape == shape:
        return value
    larger = np.full(shape, fill_value, dtype=value.dtype)
    larger[: len(value)] = value
    return larger


def write_group(folder: Path, attributes: dict[str, Any] | None = None) -> None:
    """Make a folder a zarr group; ``attributes`` are plain JSON values."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ".zgroup", {"zarr_format": 2})
    if attributes is not None:
        write_json(folder / ".zattrs", attributes)


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON; NaN and infinity are refused."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, or none: half of one would be read as damage.

    Raises:
        OSError: there is no space, or the disk fails.
    """
    try:
        path.write_bytes(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
