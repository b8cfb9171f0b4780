"""Whether chunks leave the range of the demonstrated actions, and by how much.

Beyond it a policy extrapolates. Policies clip what they execute, so what is asked here is what
their networks say before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

MARGIN = 0.01
"""Share of a dimension's range by which an action has to leave it before it counts as outside: many
demonstrated actions stand at its very end, a gripper's say."""

MOST = 0.95
"""Quantile of how far chunks go beyond the range."""


@dataclass(frozen=True)
class Outside:
    """How chunks leave the demonstrated range.

    Attributes:
        chunks: share of the chunks that have any action outside, by more than `MARGIN`.
        per_dim: (action_dim,) share of the actions that are.
        most: how far 95% of the chunks stay from going beyond the range: of the furthest action of
            each chunk, as a share of the range of its dimension; 0 where they stay inside.
        n_chunks: chunks.
    """

    chunks: float
    per_dim: np.ndarray
    most: float
    n_chunks: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "share_of_chunks": self.chunks,
            "share_per_dim": self.per_dim.tolist(),
            "beyond_of_range_95": self.most,
            "chunks": self.n_chunks,
        }


def outside_of(
    chunks: np.ndarray, low: np.ndarray, high: np.ndarray, *, executed: np.ndarray | None = None
) -> Outside:
    """Return how chunks leave a range.

    Args:
        chunks: (..., M, steps, action_dim), at least one.
        low: (action_dim,), the smallest demonstrated action.
        high: the largest. A dimension that never moved is clipped to where it was, whatever is
            predicted of it, and does not count.
        executed: (M, steps) bool, which actions count; None: all.
    """
    width = high - low
    moving = width > 1e-9 * np.maximum(1, np.abs(high))
    beyond = np.maximum(np.maximum(low - chunks, chunks - high), 0)
    beyond = np.where(moving, beyond / np.where(moving, width, 1), 0)
    counts = np.ones(chunks.shape[-3:-1], bool) if executed is None else executed
    beyond = np.where(counts[..., None], beyond, 0)
    outside: np.ndarray = beyond > MARGIN + 1e-9
    asked = counts.any(-1)
    furthest = beyond.max((-1, -2))[..., asked]
    size = chunks.shape[-1]
    return Outside(
        chunks=float(np.asarray(outside.any((-1, -2)))[..., asked].mean()),
        per_dim=outside[..., counts, :].reshape(-1, size).mean(0),
        most=float(np.quantile(furthest, MOST)),
        n_chunks=int(furthest.size),
    )
