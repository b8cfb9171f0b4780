"""Teacher samples, written in parts, so that they are made once and can be made in pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.policy.tensors import fill_tensors, write_tensors
from lfm_policy.training.seeds import TEACHER_NOISE, derived_seed


def teacher_noise(seed: int, n_rows: int, chunk_shape: tuple[int, ...]) -> Tensor:
    """Return the noise of every row, (n_rows, *chunk_shape) float32; depends on the seed alone."""
    generator = torch.Generator().manual_seed(derived_seed(seed, TEACHER_NOISE))
    return torch.randn(n_rows, *chunk_shape, generator=generator)


def in_parts(
    folder: Path,
    n_rows: int,
    batch_size: int,
    shape: tuple[int, ...],
    make: Callable[[int, int], Tensor],
    *,
    label: str,
    stop: Callable[[], None],
    quiet: bool,
) -> Tensor:
    """Return (n_rows, *shape) made of the parts in ``folder``, making those that are missing.

    Args:
        folder: holds ``part-<k>.safetensors``; its name must say everything the rows depend on.
        n_rows: rows in all.
        batch_size: rows per part; the last one may have fewer.
        shape: of one row.
        make: returns rows ``begin`` to ``end``.
        label: of the progress bar.
        stop: called between two parts; raises to stop.
        quiet: no progress bar.
    """
    rows = torch.empty(n_rows, *shape)
    with tqdm(total=n_rows, desc=label, unit="sample", disable=quiet, mininterval=0.5) as bar:
        for begin in range(0, n_rows, batch_size):
            end = min(begin + batch_size, n_rows)
            path = folder / f"part-{begin // batch_size:06d}.safetensors"
            if path.exists():
                fill_tensors(path, {"rows": rows[begin:end]})
            else:
                rows[begin:end] = make(begin, end).cpu()
                write_tensors(path, {"rows": rows[begin:end]})
                stop()
            bar.update(end - begin)
    return rows
