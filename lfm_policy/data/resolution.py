"""Whether float32, in which networks compute, can tell the values of a dimension apart.

Numbers far from zero lie far apart in float32: beside 4,200,000 (metres of a map) the next one is
0.5 away, beside 1.7e9 (seconds since 1970) 128. A dimension that moves by less is a constant there,
unless its offset is subtracted while it is still in float64.
"""

from __future__ import annotations

import numpy as np

CONSTANT_RANGE = 1e-4
"""A dimension whose values span less (in its own unit) counts as constant: it is centred, not
scaled, so that a change in use is not blown up. The value is Diffusion Policy's."""

ENOUGH_LEVELS = 1000
"""Values that a dimension can take in float32 between its smallest and its largest one, below which
its offset has to go first: three digits are what an encoder of positions has."""

FEWEST_LEVELS = 16
"""Values below which a dimension is as good as constant."""


def levels(low: np.ndarray, high: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Return how many steps of a number format lie between two values, float64.

    Args:
        low: smallest values, float64.
        high: largest values, of the same shape.
        dtype: the format; whole numbers are 1 apart.
    """
    farthest = np.maximum(np.abs(low), np.abs(high))
    kind = np.dtype(dtype)
    if kind.kind != "f":
        return np.asarray(high - low, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused elsewhere
        spacing = np.spacing(farthest.astype(kind)).astype(np.float64)
    return np.asarray((high - low) / spacing, dtype=np.float64)


def is_wide(dtype: np.dtype) -> bool:
    """Whether an array can tell values apart that float32 cannot: float64 and large integers."""
    return not np.can_cast(dtype, np.float32, "safe")


def far_elements(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which dimensions move, but by too few steps of float32; of the shape of ``low``."""
    return np.asarray(
        (high - low >= CONSTANT_RANGE) & (levels(low, high, np.float32) < ENOUGH_LEVELS)
    )


def needs_float64(array: np.ndarray) -> bool:
    """Whether an array (T, ...) has values that float32 cannot tell apart and its own dtype can."""
    return is_wide(array.dtype) and bool(len(array)) and bool(far_elements(*_extremes(array)).any())


def coarse_elements(array: np.ndarray) -> list[int]:
    """Return the elements of a step that the stored format itself has made nearly constant.

    What is lost before a file is written cannot be brought back: beside 4.2e6 a float32 file holds
    multiples of 0.5, whatever was measured.

    Args:
        array: (T, ...) numbers.
    """
    if array.dtype.kind != "f" or not len(array):
        return []
    low, high = (extreme.ravel() for extreme in _extremes(array))
    coarse = (high - low >= CONSTANT_RANGE) & (levels(low, high, array.dtype) < FEWEST_LEVELS)
    return [int(d) for d in np.flatnonzero(coarse)]


def _extremes(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return array.min(axis=0).astype(np.float64), array.max(axis=0).astype(np.float64)


def coarse_message(key: str, array: np.ndarray, elements: list[int]) -> str:
    """Say what `coarse_elements` found, and what mends it."""
    values = array.reshape(len(array), -1)[:, elements[0]]
    return (
        f"{key}[{', '.join(map(str, elements))}] was stored in {array.dtype}, which has few steps "
        f"there: {key}[{elements[0]}] takes {len(np.unique(values))} values from "
        f"{values.min():.10g} to {values.max():.10g}; record it as float64, or subtract an offset "
        "before it is stored"
    )
