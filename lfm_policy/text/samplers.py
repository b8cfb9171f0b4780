"""How a sampler spends its evaluations, in words."""

from __future__ import annotations

from collections.abc import Sequence


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
