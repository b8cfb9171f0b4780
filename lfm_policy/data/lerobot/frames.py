"""Frames that come one by one, handed on in parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

_PART_FRAMES = 256
_PART_BYTES = 2**26


def in_parts(
    frames: Iterable[np.ndarray], frame_shape: tuple[int, int, int]
) -> Iterator[np.ndarray]:
    """Yield frames, each uint8 ``frame_shape``, as arrays (n, *frame_shape).

    A part has at most 256 frames and, unless one frame alone is larger, 64 MiB.
    """
    length = max(1, min(_PART_FRAMES, _PART_BYTES // math.prod(frame_shape)))
    part, n = np.empty((length, *frame_shape), np.uint8), 0
    for frame in frames:
        part[n] = frame
        n += 1
        if n == length:
            yield part
            # A new one: whoever took the last part may keep it.
            part, n = np.empty((length, *frame_shape), np.uint8), 0
    if n:
        yield part[:n]
