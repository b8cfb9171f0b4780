"""Depth images as the grey levels that networks see: the same in training and on a robot."""

from __future__ import annotations

import numpy as np

NEAREST, FARTHEST = 1, 255
"""Levels of the ends of the range; 0 is where nothing was measured."""


def depth_levels(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Return depth as levels: 1 at ``near`` and nearer, 255 at ``far`` and farther.

    Where a camera measured nothing, which it says by 0 or NaN, the level is 0.

    Args:
        depth: any shape, numbers in the units of ``near`` and ``far``, such as uint16 millimetres.
        near: the nearest distance that matters, at least 0.
        far: the farthest one.

    Returns:
        uint8 of the same shape.
    """
    distances = np.asarray(depth, np.float32)
    measured = distances > 0
    share = (np.where(measured, distances, near) - near) / (far - near)
    levels = NEAREST + (FARTHEST - NEAREST) * np.clip(share, 0, 1)
    return np.where(measured, np.rint(levels), 0).astype(np.uint8)
