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

import numpy as np

from lfm_policy.data.zarr.chunks import Chunks
from lfm_policy.errors import InputError

_DISTINCT = 0.5
"""Values hardly ever repeat where more than this share of them are different."""


def absent_chunks(chunks: Chunks, why: str = "") -> InputError:
    """Return the error for chunks that are not there."""
    array = chunks.of.array
    n_chunks = chunks.present.size
    first = np.unravel_index(int(np.argmin(chunks.present)), chunks.present.shape)
    sizes = zip(first, chunks.shape, array.shards or chunks.shape, strict=True)
    file = tuple(int(c) * size // shard for c, size, shard in sizes)
    return InputError(
        f"{chunks.of.source}: its metadata promises shape {array.shape} in {n_chunks} chunks, but "
        f"{chunks.of.chunk_name(file)} is absent ({n_chunks - chunks.n_absent} chunks are "
        f"there){why}. Copy the store again; if it was written without empty chunks, write it with "
        "zarr.config.set({'array.write_empty_chunks': True})"
    )


def check_absent(chunks: Chunks) -> None:
    """Check that absent chunks can be the fill value, from the array's metadata alone.

    Raises:
        InputError: no chunk is there, or there is no fill value, or it is no number.
    """
    fill = _fill_value(chunks)
    if fill is None:
        raise absent_chunks(chunks, ", and there is no fill value that it would stand for")
    if not chunks.present.any():
        raise absent_chunks(chunks)
    if not math.isfinite(fill):
        raise absent_chunks(chunks, f", and its fill value is {fill:g}, not a finite number")


def check_tail(chunks: Chunks, ends: Mapping[str, int | None]) -> None:
    """Check that an array of which the last chunks are absent is not one that broke off.

    Args:
        chunks: of the array.
        ends: other arrays of its length -> the step from which on no chunk is there, 0 where none
            is at all; None if one is damaged.

    Raises:
        InputError: another array ends in the same place or is damaged, or all end early.
    """
    broke_off = "the copy or recording broke off"
    for name, end in ends.items():
        if end is None:
            raise absent_chunks(chunks, f", and {name} is damaged: {broke_off}")
        if 0 < end < chunks.n_steps and abs(end - chunks.end) < chunks.shape[0]:
            raise absent_chunks(chunks, f", and {name} ends there, too: {broke_off}")
    if chunks.n_steps not in ends.values():
        raise absent_chunks(
            chunks, f", and no array has chunks up to step {chunks.n_steps}: {broke_off}"
        )


def check_repeats(chunks: Chunks, values: np.ndarray) -> None:
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
            and not (stored == _fill_value(chunks)).all(axis=1).any()
            and len(np.unique(stored)) > _DISTINCT * stored.size
        ):
            raise absent_chunks(
                chunks,
                ", and no step that is there holds only the fill value, in values that hardly ever "
                "repeat: it was lost",
            )


def remark(chunks: Chunks) -> str:
    """Return what is said of an array with absent chunks that are its fill value."""
    found = f"{chunks.n_absent} of {chunks.present.size} chunks absent"
    return f"{found}, read as fill value {_fill_value(chunks):g}"


def _fill_value(chunks: Chunks) -> float | None:
    fill = chunks.of.array.metadata.fill_value
    return None if fill is None else float(fill)
