"""What a robot feels of chunks: how they join, whether they stay in range, which ways they go."""

from __future__ import annotations

from lfm_policy.evaluation.chunks.outside import MARGIN, Outside, outside_of
from lfm_policy.evaluation.chunks.smoothness import Smoothness, smoothness_of
from lfm_policy.evaluation.chunks.ways import (
    Kept,
    TwoWays,
    kept_ways,
    relative_spread,
    two_ways,
)

__all__ = [
    "MARGIN",
    "Kept",
    "Outside",
    "Smoothness",
    "TwoWays",
    "kept_ways",
    "outside_of",
    "relative_spread",
    "smoothness_of",
    "two_ways",
]
