"""The range of nearly all values of a dimension, and the few values far outside that squeeze it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lfm_policy.data.resolution import CONSTANT_RANGE

QUANTILES = (0.01, 0.99)
"""Nearly all values lie between these."""

OUTLIER_WIDTHS = 3.0
"""An outlier lies beyond the 1% or the 99% quantile by more than so many times the distance of the
two."""

COINCIDING_SHARE = 1e-3
"""Quantiles nearer to each other than this share of the whole range are as good as one: what a
dimension has to say lies outside them, as with a gripper that is closed 99% of the time."""


def quantiles(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 1% and the 99% quantile of every element of an array (T, ...), float64."""
    low, high = np.quantile(array, QUANTILES, axis=0)
    return np.asarray(low), np.asarray(high)


def coincide(q01: np.ndarray, q99: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return where quantiles say nothing of the range from ``low`` to ``high``; bool."""
    return np.asarray(q99 - q01 < np.maximum(CONSTANT_RANGE, COINCIDING_SHARE * (high - low)))


def far_outside(values: np.ndarray, q01: np.ndarray, q99: np.ndarray) -> np.ndarray:
    """Return which values are outliers; bool, of the shape of ``values``.

    A dimension that takes one value in 98% of all steps (a switch, a rare contact) has no width to
    compare with, and no outliers.

    Args:
        values: of any shape that broadcasts against the quantiles.
        q01: the 1% quantile.
        q99: the 99% quantile.
    """
    width = q99 - q01
    beyond = np.maximum(q01 - values, values - q99)
    return np.asarray((beyond > OUTLIER_WIDTHS * width) & (width >= CONSTANT_RANGE))


def squeezed(arrays: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """Return the elements whose limits are set by outliers, by key; keys without any are left out.

    Normalised by ``limits``, nearly all of their values lie in a small part of [-1, 1]; by
    ``quantiles``, they fill it.

    Args:
        arrays: of numbers, each (T, ...) with T > 0; no images.
    """
    found = {}
    for key, array in arrays.items():
        columns = array.reshape(len(array), -1).astype(np.float64)
        extremes = np.stack([columns.min(axis=0), columns.max(axis=0)])
        elements = np.flatnonzero(far_outside(extremes, *quantiles(columns)).any(axis=0))
        if len(elements):
            found[key] = elements.tolist()
    return found
