"""What kind of observation a shape is."""

from __future__ import annotations

from collections.abc import Sequence


def is_image(shape: Sequence[int]) -> bool:
    """Whether one step of this shape is a camera image: height, width and 1, 3 or 4 channels.

    Camera images are uint8 wherever they are; everything else is floating point.
    """
    return len(shape) == 3 and shape[2] in (1, 3, 4)
