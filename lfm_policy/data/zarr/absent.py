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
import warnings
from collections.abc import Callable, Mapping

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
        f"chunk {chunks.of.key(file)} is absent ({n_chunks - chunks.n_absent} chunks are "
        f"there){why}. Copy the store again; if it was written without empty chunks, write it with "
        "zarr.config.set({'array.write_empty_chunks': True})"
    )


def check_absent(chunks: Chunks, ends_of_others: Callable[[], Mapping[str, int | None]]) -> None:
    """Check that absent chunks can be the fill value, before values are read.

    Args:
        chunks: of the array.
        ends_of_others: gives other arrays of its length -> the step from which on no chunk is
            there, 0 where none is at all; None if one is damaged. Called where the last chunks of
            this array are absent.

    Raises:
        InputError: no chunk is there, or there is no fill value, or it is no number; or the last
            chunks are absent where another array ends, too, or is damaged, or all end early.
    """
    fill = _fill_value(chunks)
    if fill is None:
        raise absent_chunks(chunks, ", and there is no fill value that it would stand for")
    if not chunks.present.any():
        raise absent_chunks(chunks)
    if not math.isfinite(fill):
        raise absent_chunks(chunks, f", and its fill value is {fill:g}, not a finite number")
    if chunks.end == chunks.n_steps:
        return
    ends, broke_off = ends_of_others(), "the copy or recording broke off"
    for name, end in ends.items():
        if end is None:
            raise absent_chunks(chunks, f", and {name} is damaged: {broke_off}")
        if 0 < end < chunks.n_steps and abs(end - chunks.end) < chunks.shape[0]:
            raise absent_chunks(chunks, f", and {name} ends there, too: {broke_off}")
    if chunks.n_steps not in ends.values():
        why = f", and no array has chunks up to step {chunks.n_steps}"
        raise absent_chunks(chunks, f"{why}: {broke_off}")


def check_repeats(chunks: Chunks, values: np.ndarray) -> None:
    """Check that an array of which chunks are absent rests at its fill value elsewhere, too.

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
            why = ", and no step that is there holds only the fill value, in values that hardly"
            raise absent_chunks(chunks, f"{why} ever repeat: it was lost")


def warn_of_absent(chunks: Chunks) -> None:
    """Warn of absent chunks that are the fill value, if there are any."""
    if chunks.n_absent:
        found = f"{chunks.n_absent} of {chunks.present.size} chunks absent"
        message = f"{chunks.of.source}: {found}, read as fill value {_fill_value(chunks):g}"
        warnings.warn(message, stacklevel=4)


def _fill_value(chunks: Chunks) -> float | None:
    fill = chunks.of.array.metadata.fill_value
    return None if fill is None else float(fill)
