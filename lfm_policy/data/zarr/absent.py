"""Chunks that are not there: zeros that nobody stored, or data that was lost.

zarr leaves out chunks that hold nothing but the fill value, by default. A copy or a recording that
broke off leaves out chunks, too, and zarr reads both as the fill value. They are told apart by what
else there is:

- an array of which no chunk is there, or whose metadata has no fill value, has lost them;
- so has one whose last chunks are absent where another array ends as well, or where no array
  reaches the last step, or where another array has damaged chunks;
- so has one whose values hardly ever repeat, when none of its steps holds only the fill value:
  a measurement does not rest at exactly zero for just the length of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from lfm_policy.data.zarr.chunks import Chunks
from lfm_policy.errors import InputError

_DISTINCT = 0.5
"""Values hardly ever repeat where more than this share of them are different."""


def absent_chunks(array: zarr.Array, chunks: Chunks, source: str, why: str) -> InputError:
    """Return the error for chunks that are not there."""
    n_chunks = chunks.present.size
    first = np.unravel_index(int(np.argmin(chunks.present)), chunks.present.shape)
    inner = () if array.shards is None else array.shards
    file = tuple(
        int(c) * size // shard
        for c, size, shard in zip(first, chunks.shape, inner or chunks.shape, strict=True)
    )
    return InputError(
        f"{source}: its metadata promises shape {array.shape} in {n_chunks} chunks, but "
        f"chunk {array.metadata.encode_chunk_key(file)} is absent ({n_chunks - chunks.n_absent} "
        f"chunks are there){why}. Copy the store again; if it was written without empty chunks, "
        "write it with zarr.config.set({'array.write_empty_chunks': True})"
    )


def check_absent(array: zarr.Array, chunks: Chunks, source: str) -> None:
    """Check that absent chunks can be the fill value, from the array's metadata alone.

    Raises:
        InputError: no chunk is there, or there is no fill value, or it is no number.
    """
    fill = _fill_value(array)
    if fill is None:
        raise absent_chunks(
            array, chunks, source, ", and there is no fill value that it would stand for"
        )
    if not chunks.present.any():
        raise absent_chunks(array, chunks, source, "")
    if not math.isfinite(fill):
        raise absent_chunks(
            array, chunks, source, f", and its fill value is {fill:g}, not a finite number"
        )


def check_tail(
    array: zarr.Array, chunks: Chunks, ends: Mapping[str, int | None], source: str
) -> None:
    """Check that an array of which the last chunks are absent is not one that broke off.

    Args:
        array: the array, opened.
        chunks: which of its chunks are there.
        ends: other arrays of its length -> the step from which on no chunk is there, 0 where none
            is at all; None if one is damaged.
        source: for messages.

    Raises:
        InputError: another array ends in the same place or is damaged, or all end early.
    """
    broke_off = "the copy or recording broke off"
    for name, end in ends.items():
        if end is None:
            why = f", and {name} is damaged: {broke_off}"
        elif 0 < end < chunks.n_steps and abs(end - chunks.end) < chunks.shape[0]:
            why = f", and {name} ends there, too: {broke_off}"
        else:
            continue
        raise absent_chunks(array, chunks, source, why)
    if chunks.n_steps not in ends.values():
        why = f", and no array has chunks up to step {chunks.n_steps}: {broke_off}"
        raise absent_chunks(array, chunks, source, why)


def check_repeats(array: zarr.Array, values: np.ndarray, chunks: Chunks, source: str) -> None:
    """Check that an array with absent chunks rests at its fill value elsewhere, too.

    Raises:
        InputError: it does not, and its values hardly ever repeat.
    """
    length, *sizes = chunks.shape
    if length == 1:
        return
    for column in np.argwhere(~chunks.present.all(axis=0)):
        region = tuple(slice(c * n, (c + 1) * n) for c, n in zip(column, sizes, strict=True))
        there = np.repeat(chunks.present[(slice(None), *column)], length)[: len(values)]
        stored = values[(slice(None), *region)][there].reshape(int(there.sum()), -1)
        if (
            stored.size
            and not (stored == _fill_value(array)).all(axis=1).any()
            and len(np.unique(stored)) > _DISTINCT * stored.size
        ):
            raise absent_chunks(
                array,
                chunks,
                source,
                ", and no step that is there holds only the fill value, in values that hardly ever "
                "repeat: it was lost",
            )


def remark(array: zarr.Array, chunks: Chunks) -> str:
    """Return what is said of an array with absent chunks that are its fill value."""
    fill: Any = _fill_value(array)
    return f"{chunks.n_absent} of {chunks.present.size} chunks absent, read as fill value {fill:g}"


def _fill_value(array: zarr.Array) -> float | None:
    fill = array.metadata.fill_value
    return None if fill is None else float(fill)
