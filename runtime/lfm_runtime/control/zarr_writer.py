"""Arrays in zarr's format v2, row after row, with nothing but numpy and zlib.

A robot's computer need not have zarr to write what zarr reads.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

_CHUNK_BYTES = 2**20
_LEVEL = 1


class ArrayWriter:
    """One array of growing length; complete when `finish` has been called."""

    def __init__(self, folder: Path, row_shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Create the folder of the array.

        Args:
            folder: must not exist.
            row_shape: shape of one row.
            dtype: of the numbers.
        """
        folder.mkdir(parents=True)
        self._folder = folder
        self._dtype = dtype.newbyteorder("<")
        row_bytes = max(int(np.prod(row_shape)) * dtype.itemsize, 1)
        rows = max(1, min(4096, _CHUNK_BYTES // row_bytes))
        self._chunk = np.zeros((rows, *row_shape), dtype=self._dtype)
        self._length = 0

    def append(self, row: Any) -> None:
        """Add one row.

        Raises:
            ValueError: it has another shape.
        """
        row = np.asarray(row)
        if row.shape != self._chunk.shape[1:]:
            raise ValueError(
                f"{self._folder}: a row has shape {row.shape}, the first one had "
                f"{self._chunk.shape[1:]}"
            )
        rows = len(self._chunk)
        self._chunk[self._length % rows] = row
        self._length += 1
        if self._length % rows == 0:
            self._write(self._length // rows - 1)

    def finish(self) -> None:
        """Write the last chunk and the metadata."""
        rows = len(self._chunk)
        left = self._length % rows
        if left:
            self._chunk[left:] = 0
            self._write(self._length // rows)
        metadata = {
            "zarr_format": 2,
            "shape": [self._length, *self._chunk.shape[1:]],
            "chunks": list(self._chunk.shape),
            "dtype": self._dtype.str,
            "compressor": {"id": "zlib", "level": _LEVEL},
            "fill_value": 0,
            "order": "C",
            "filters": None,
        }
        _write_json(self._folder / ".zarray", metadata)

    def _write(self, number: int) -> None:
        name = ".".join([str(number), *("0" for _ in self._chunk.shape[1:])])
        (self._folder / name).write_bytes(zlib.compress(self._chunk.tobytes(), _LEVEL))


def write_group(folder: Path, attributes: dict[str, Any] | None = None) -> None:
    """Make a folder a zarr group; ``attributes`` are plain JSON values."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / ".zgroup", {"zarr_format": 2})
    if attributes is not None:
        _write_json(folder / ".zattrs", attributes)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
