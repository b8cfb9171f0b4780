"""The statistics that LeRobot keeps of every feature, per episode and over all of them."""

from __future__ import annotations

import numpy as np

_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}

Stats = dict[str, np.ndarray]
"""``min``, ``max``, ``mean``, ``std``, ``q01`` to ``q99`` and ``count``."""


def array_stats(values: np.ndarray) -> Stats:
    """Return the statistics of low-dimensional values.

    Args:
        values: (T, ...) numbers.

    Returns:
        Arrays of the shape of one step, (1,) for a scalar; ``count`` is T, shape (1,). ``min`` and
        ``max`` of integers stay integers, all else is float64.
    """
    values = values.reshape(len(values), *(values.shape[1:] or (1,)))
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    # float64, because sums of many float16 or float32 lose digits.
    numbers = values.astype(np.float64)
    quantiles = np.quantile(numbers, list(_QUANTILES.values()), axis=0)
    extremes = values if values.dtype.kind in "iu" else numbers
    return {
        "min": extremes.min(axis=0),
        "max": extremes.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
    }


def image_histogram(images: np.ndarray) -> np.ndarray:
    """Return how often each grey level occurs: uint8 (T, H, W, C) -> (C, 256) int64.

    Histograms of parts add up to that of the whole, and give exact statistics.
    """
    channels = np.moveaxis(images, -1, 0)
    return np.stack([np.bincount(c.reshape(-1), minlength=256) for c in channels])


def image_stats(histogram: np.ndarray, n_frames: int) -> Stats:
    """Return the statistics of images from their histogram.

    Args:
        histogram: (C, 256), see `image_histogram`.
        n_frames: number of images in it.

    Returns:
        Arrays (C, 1, 1), in shares of 255 as LeRobot loads images; ``count`` has shape (1,).
    """
    levels = np.arange(256) / 255
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ levels
    variance = (share * (levels - mean[:, None]) ** 2).sum(axis=1)
    below = share.cumsum(axis=1)
    present = histogram > 0
    stats = {
        "min": levels[present.argmax(axis=1)],
        "max": levels[255 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(variance),
        # 1e-12: a cumulated share of exactly q may be rounded to just below it.
        **{name: levels[(below >= q - 1e-12).argmax(axis=1)] for name, q in _QUANTILES.items()},
    }
    return {
        **{name: value.reshape(-1, 1, 1) for name, value in stats.items()},
        "count": np.array([n_frames]),
    }
