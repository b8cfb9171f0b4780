"""Depth images of a dataset: which arrays they are, how they are stored, and what they become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lfm_policy.data.images.layout import ImageLayout
from lfm_policy.errors import InputError
from lfm_runtime.policy.depth import FARTHEST, NEAREST, depth_levels

_AT_ONCE = 64
"""Images that become floating point at once."""

METRES = 32.0
"""Fractions of one channel that are all below are distances: images of 0 to 255 are not so dark."""

_SMALLEST_GUESS = 16
"""Pixels a side from which on an array of uint16 is taken for depth that nobody named."""


def depth_layout(shape: Sequence[int], dtype: np.dtype, source: str) -> ImageLayout:
    """Return how depth images are stored, one step of this shape.

    Raises:
        InputError: it is another shape than (height, width), with or without an axis of one
            channel; or uint8, which is no depth.
    """
    stored = tuple(int(size) for size in shape)
    if dtype == np.uint8 or dtype.kind not in "fiu":
        raise InputError(
            f"{source} is {dtype}, and dataset.depth names it; expected distances, such as uint16 "
            "millimetres or float32 metres: leave it out of dataset.depth to see it as it is"
        )
    if len(stored) == 2:
        return ImageLayout(stored, "h w")
    if len(stored) == 3 and stored[2] == 1:
        return ImageLayout(stored)
    if len(stored) == 3 and stored[0] == 1:
        return ImageLayout(stored, "c h w")
    raise InputError(
        f"{source} has shape {stored} per step, and dataset.depth names it; expected depth images "
        "(height, width), with or without an axis of one channel"
    )


def depth_parts(
    source: str, parts: Iterable[np.ndarray], ends: tuple[float, float]
) -> Iterator[np.ndarray]:
    """Yield depth images as levels, uint8, see `depth_levels`.

    Raises:
        InputError: in none of them anything lies within the range: it is of another unit.
    """
    seen, low, high = False, np.inf, 0.0
    for part in parts:
        levels = depth_levels(part, *ends)
        seen = seen or bool(((levels > NEAREST) & (levels < FARTHEST)).any())
        if not seen and levels.any():
            measured = part[levels > 0]
            low, high = min(low, float(measured.min())), max(high, float(measured.max()))
        yield levels
    if not seen:
        found = f"{low:g} to {high:g}" if high else "no distance at all"
        raise InputError(
            f"{source}: holds {found}, and dataset.depth says {ends[0]:g} to {ends[1]:g}; expected "
            "the nearest and the farthest distance that matter, in the units of the data"
        )


def depth_array(source: str, images: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Return depth images that are in memory, (T, ...), as levels (T, height, width, 1) uint8.

    Raises:
        InputError: as `depth_layout` and `depth_parts`.
    """
    frames = depth_layout(images.shape[1:], images.dtype, source).to_frames(images)
    parts = (frames[begin : begin + _AT_ONCE] for begin in range(0, len(frames), _AT_ONCE))
    return np.concatenate(list(depth_parts(source, parts, ends)))


def looks_like_depth(shape: Sequence[int], dtype: np.dtype) -> bool:
    """Whether an array that nobody called depth can be nothing else, by one step of it."""
    stored = tuple(shape)
    if len(stored) == 3 and 1 in (stored[0], stored[2]):
        stored = stored[:2] if stored[2] == 1 else stored[1:]
    is_large = len(stored) == 2 and min(stored) >= _SMALLEST_GUESS
    return dtype == np.uint16 and is_large


def has_fractions(images: np.ndarray) -> bool:
    """Whether images of one channel, (T, height, width, 1), hold other than whole numbers."""
    return (
        images.dtype.kind == "f"
        and images.shape[-1] == 1
        and bool((images != np.rint(images)).any())
    )


def as_depth_advice(key: str) -> str:
    """Return what reads an array as depth, to follow what was found."""
    return f"dataset.depth={{{key}: [nearest, farthest]}}, in its units, reads it as depth"


def refuse_unnamed_depth(key: str, shape: Sequence[int], dtype: np.dtype, source: str) -> None:
    """Refuse images of depth as numbers, of which there would be hundreds of thousands.

    Raises:
        InputError: it `looks_like_depth`.
    """
    if looks_like_depth(shape, dtype):
        raise InputError(
            f"{source} has {dtype} {tuple(shape)} per step, as depth images have: "
            + as_depth_advice(key)
        )
