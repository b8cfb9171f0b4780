"""An opened zarr store: arrays are opened and read here, and every check is made on the way."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from lfm_policy.data.zarr.absent import absent_chunks, check_absent, check_repeats, warn_of_absent
from lfm_policy.data.zarr.chunks import COPY_AGAIN, Chunks, OpenedArray, find_chunks
from lfm_policy.data.zarr.codecs import check_codecs
from lfm_policy.data.zarr.files import open_zarr_files
from lfm_policy.data.zarr.guarded import GuardedArray
from lfm_policy.errors import InputError, brief, reading
from lfm_runtime.closing import Closing
from lfm_runtime.registry import nearest_names

DATA = "data/"
"""Folder of the arrays that are one step long per step."""

_PART_BYTES = 8 * 2**20


class ZarrReader(Closing):
    """An open store; every failure of zarr below it becomes an :class:`InputError`.

    Attributes:
        path: where it is.
        files: its files.
        array_names: paths inside the store of all arrays.
    """

    def __init__(self, path: Path) -> None:
        """Open a store.

        Raises:
            InputError: nothing is there, or no zarr store.
        """
        self.path = path.expanduser()
        self.files = open_zarr_files(self.path)
        self.array_names = self.files.array_names()
        if not self.array_names:
            self.files.close()
            raise InputError(
                f"{path}: not a zarr store (no array metadata, .zarray or zarr.json, inside); "
                "expected a replay buffer with data/<key> and meta/episode_ends"
            )

    def close(self) -> None:
        """Close the store."""
        self.files.close()

    def rate(self) -> float | None:
        """Return the steps per second that the store names, under ``fps`` or ``hz``; None without.

        Nothing depends on it but what is said and proposed, so what cannot be read is no error.
        """
        attributes = self.attributes()
        rate = attributes.get("fps", attributes.get("hz"))
        if not isinstance(rate, (int, float)) or isinstance(rate, bool):
            return None
        return float(rate) if 1e-3 <= rate <= 1e5 else None

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the store; empty where there are none that can be read."""
        attributes: Any = None
        with contextlib.suppress(Exception):
            for name, part in ((".zattrs", None), ("zarr.json", "attributes")):
                if content := self.files.read(name):
                    found = json.loads(content)
                    attributes = found if part is None else found.get(part)
                    break
        return attributes if isinstance(attributes, dict) else {}

    def described(self, name: str) -> tuple[tuple[int, ...], str]:
        """Return shape and dtype that an array's metadata name, as far as they can be read."""
        with contextlib.suppress(Exception):  # `open` says what is wrong
            metadata = self._metadata(GuardedArray(self.files, name))[1]
            shape = tuple(int(size) for size in metadata["shape"])
            return shape, str(_stored_dtype(metadata))[:40]
        return (), ""

    def open(self, name: str) -> OpenedArray:
        """Return an array without reading values.

        Raises:
            InputError: there is none, its metadata are damaged, it holds no numbers or is encoded
                in a way that is not read here.
        """
        if name not in self.array_names:
            raise InputError(
                f"{self.path}: there is no array {name}: {nearest_names(name, self.array_names)} "
                f"(the store holds: {', '.join(self.array_names)})"
            )
        source = f"{self.path}: {name}"
        files = GuardedArray(self.files, name)
        with reading(
            f"{self.path}: the metadata of {name} cannot be read",
            "the file is damaged, or of a kind that zarr 3 does not know; copy the store again",
        ):
            version, metadata = self._metadata(files)
            dtype = _stored_dtype(metadata)
            if getattr(dtype, "kind", "?") not in "fiub":
                raise InputError(
                    f"{source} has dtype {str(dtype)[:60]}; expected numbers (float, integer or "
                    "boolean)"
                )
            check_codecs(metadata, source)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array = zarr.open_array(files, mode="r", zarr_format=version)
            return OpenedArray(name, source, array, files, metadata)

    def read(self, opened: OpenedArray, *, whole: bool = False) -> np.ndarray:
        """Return all values, C-contiguous.

        Args:
            opened: the array.
            whole: whether every chunk has to be there; else absent ones are the fill value.

        Raises:
            InputError: chunks are damaged, or absent and not the fill value.

        Warns:
            UserWarning: chunks are absent.
        """
        chunks = self._chunks(opened, whole=whole)
        try:
            values = np.ascontiguousarray(opened.array[...])
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{opened.source}: {opened.first_damaged()} cannot be decoded "
                f"({brief(error)}): {COPY_AGAIN}"
            ) from error
        if chunks.n_absent:
            check_repeats(chunks, values)
        warn_of_absent(chunks)
        return values

    def parts(self, opened: OpenedArray, n_rows: int) -> Iterator[np.ndarray]:
        """Yield the first rows, whole chunks of `_PART_BYTES` or a little more at a time.

        Raises:
            InputError: chunks are damaged, or absent and not the fill value.

        Warns:
            UserWarning: chunks are absent.
        """
        chunks = self._chunks(opened)
        warn_of_absent(chunks)
        row_bytes = math.prod(opened.shape[1:]) * opened.dtype.itemsize
        length = opened.file_shape[0]
        step = length * -(-_PART_BYTES // max(1, length * row_bytes))
        for begin in range(0, n_rows, step):
            with reading(f"{opened.source}: rows from {begin} on cannot be decoded", COPY_AGAIN):
                rows = np.ascontiguousarray(opened.array[begin : min(begin + step, n_rows)])
            yield rows

    def _metadata(self, files: GuardedArray) -> tuple[Any, dict[str, Any]]:
        """Return zarr's format version and the metadata of an array."""
        for key, version in (("zarr.json", 3), (".zarray", 2)):
            text = files.read(key)
            if text is not None:
                metadata = json.loads(text)
                if not isinstance(metadata, dict):
                    raise ValueError(f"{key} is no JSON object")
                return version, metadata
        raise ValueError("no .zarray or zarr.json")

    def _chunks(self, opened: OpenedArray, *, whole: bool = False) -> Chunks:
        """Return which chunks are there, once those that are not have proved harmless."""
        source = opened.source
        if not opened.shape:
            raise InputError(f"{source} has no axis of steps; expected a shape such as (steps, 2)")
        with reading(f"{source}: chunks cannot be decoded", COPY_AGAIN):
            chunks = find_chunks(opened)
        if chunks.n_absent and whole:
            raise absent_chunks(chunks)
        if chunks.n_absent:
            check_absent(chunks, lambda: self._ends_of_others(opened))
        return chunks

    def _ends_of_others(self, opened: OpenedArray) -> dict[str, int | None]:
        """Return where the other arrays of the same length end, None for damaged ones."""
        ends: dict[str, int | None] = {}
        for name in self.array_names:
            if name == opened.name or not name.startswith(DATA):
                continue
            try:
                other = self.open(name)
            except InputError:
                continue  # nobody knows its chunks
            if other.shape[:1] != opened.shape[:1]:
                continue
            try:
                ends[name] = find_chunks(other).end
            except Exception:
                ends[name] = None
        return ends


def _stored_dtype(metadata: Mapping[str, Any]) -> Any:
    """Return the dtype of v2 or v3 metadata; what numpy does not know comes as it is written."""
    stored = metadata["data_type"] if "data_type" in metadata else metadata["dtype"]
    if isinstance(stored, dict):
        return stored.get("name", "unknown")
    if not isinstance(stored, str):
        return stored
    try:
        return np.dtype(stored)
    except TypeError:
        return stored
