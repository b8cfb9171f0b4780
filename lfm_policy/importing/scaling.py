"""How other frameworks scale numbers, as the affine transforms of our normaliser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lfm_policy.data.normalizer import KeyStatistics
from lfm_policy.errors import InputError

UNKNOWN_RANGE = 3.0
"""Standard deviations on both sides of the mean, for a range that a file does not say."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Scaling:
    """The transform ``(x - origin) * scale + offset`` of one key, and what is known of its data.

    Attributes:
        mode: the mode of our normaliser that it comes nearest to.
        statistics: for our normaliser.
        known_range: whether the file says between which values the data lay; else the range is
            `UNKNOWN_RANGE` standard deviations.
    """

    mode: str
    statistics: KeyStatistics
    known_range: bool


def scaling(
    mode: str,
    scale: Array,
    offset: Array,
    *,
    data: Mapping[str, Array],
    origin: Array | None = None,
) -> Scaling:
    """Return a scaling.

    Args:
        mode: of our normaliser.
        scale: of ``x - origin``, positive.
        offset: added to it.
        data: what is known of ``min``, ``max``, ``mean`` and ``std``.
        origin: where ``x`` alone, in float32, would lose too many digits.
    """
    middle = data.get("mean", _middle(data) if {"min", "max"} <= data.keys() else -offset / scale)
    # The distribution that scaled data have, for want of any other: as wide as the scale says.
    spread = data.get("std", 1 / scale if mode != "identity" else np.ones_like(scale))
    low = data.get("min", middle - UNKNOWN_RANGE * spread)
    high = data.get("max", middle + UNKNOWN_RANGE * spread)
    start = np.zeros_like(scale) if origin is None else origin
    values = {
        "scale": scale,
        "offset": offset,
        "min": np.minimum(low, high) - start,
        "max": np.maximum(low, high) - start,
        "mean": middle - start,
        "std": spread,
    }
    parts = {name: torch.from_numpy(np.asarray(v, np.float32)) for name, v in values.items()}
    for name, part in parts.items():
        if not bool(torch.isfinite(part).all()):
            raise InputError(f"the {name} of the statistics is not finite")
    moved = None if origin is None else torch.from_numpy(np.asarray(origin, np.float64))
    known = {"min", "max"} <= data.keys()
    return Scaling(mode, KeyStatistics(**parts, origin=moved), known)


def between(
    mode: str, low: Array, high: Array, *, data: Mapping[str, Array], epsilon: float, always: bool
) -> Scaling:
    """Return ``2 (x - low) / d - 1`` with d = ``high - low``.

    Args:
        mode: of our normaliser.
        low: to -1.
        high: to 1.
        data: see `scaling`.
        epsilon: d where both are equal, or what is added to it.
        always: whether it is always added.
    """
    # In float32, as there: what it makes of nearly equal ends matters.
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    width = high32 - low32
    width = width + np.float32(epsilon) if always else np.where(width == 0, epsilon, width)
    if not (width > 0).all():
        raise InputError("the statistics have a largest value below the smallest")
    scale = 2 / width.astype(np.float64)
    # Where all values are one, the scale is so large that x and offset would cancel.
    origin = np.where(scale * np.abs(low) > 1e5, low, 0.0)
    offset = (origin - low) * scale - 1
    return scaling(mode, scale, offset, data=data, origin=origin if origin.any() else None)


def standard(
    mean: Array, std: Array, *, data: Mapping[str, Array], epsilon: float, back: bool = False
) -> Scaling:
    """Return ``(x - mean) / (std + epsilon)``.

    Args:
        mean: to 0.
        std: to 1.
        data: see `scaling`.
        epsilon: see above.
        back: whether the way back, ``x std + mean``, is to be exact.
    """
    if (std < 0).any():
        raise InputError("the statistics have a negative standard deviation")
    width = np.where(std > 0, std, epsilon) if back else std + epsilon
    scale = 1 / width
    origin = np.where(scale * np.abs(mean) > 1e5, mean, 0.0)
    offset = (origin - mean) * scale
    return scaling("standard", scale, offset, data=data, origin=origin if origin.any() else None)


def identity(shape: tuple[int, ...], *, data: Mapping[str, Array]) -> Scaling:
    """Return what leaves numbers as they are."""
    return scaling("identity", np.ones(shape), np.zeros(shape), data=data)


def _middle(data: Mapping[str, Array]) -> Array:
    middle: Array = (data["min"] + data["max"]) / 2
    return middle
