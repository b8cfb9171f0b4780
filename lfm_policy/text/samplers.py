"""Samplers in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lfm_runtime.policy.sampler import NUMBERS, Sampler


def evaluations(
    nfe: float, per_block: Sequence[int] | None = None, times: Sequence[Sequence[float]] = ()
) -> str:
    """Return a number of network evaluations, such as ``"16"`` or ``"5 (1, 1, 3 at 0.6/0.2)"``.

    Args:
        nfe: per chunk.
        per_block: of each block, block 1 first; said where they are not about the same in all.
        times: where steps of each block end; said where they are not equal.
    """
    counts = list(per_block or ())
    even = counts == sorted(counts) and (not counts or counts[-1] - counts[0] <= 1)
    if even and not any(times):
        return f"{nfe:g}"
    ends = [f" at {'/'.join(f'{t:g}' for t in inner)}" if inner else "" for inner in times]
    ends += [""] * (len(counts) - len(ends))
    parts = (f"{count}{end}" for count, end in zip(counts, ends, strict=True))
    return f"{nfe:g} ({', '.join(parts)})"


def evaluations_of(sampler: Sampler) -> str:
    """Return the evaluations of a sampler, see `evaluations`; ``"adaptive"`` where none are set."""
    if sampler.nfe is None:
        return "adaptive"
    return evaluations(sampler.nfe, sampler.nfe_per_block, sampler.block_times)


def numbers(sampler: Any, *, noise: str = "noise scale") -> list[str]:
    """Return numbers of a sampler, such as ``["noise scale 0.6", "guidance 2"]``.

    The noise is always said, others where they change something.

    Args:
        sampler: a `Sampler`, or the options of one.
        noise: what to call its noise scale; "": it is said elsewhere.
    """
    said = [
        f"{name} {value:g}"
        for name, default in NUMBERS.items()
        if name != "noise_scale" and (value := getattr(sampler, name)) != default
    ]
    return [f"{noise} {sampler.noise_scale:g}", *said] if noise else said
