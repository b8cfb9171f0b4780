"""How stored camera images lie in memory, and how they become (height, width, channels).

Everything past the reader of a file format sees images as (height, width, 1, 3 or 4 channels)
uint8. Recorders also write channels first, as networks take them, grey images without an axis of
channels, and a fourth channel that is opaque everywhere, as renderers give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from einops import rearrange

from lfm_policy.errors import InputError
from lfm_runtime.policy.spec import is_image

CHANNELS = (1, 3, 4)

_SMALLEST_GUESS = 16
"""Pixels in height and width from which on an array may be taken for images that nothing but its
size speaks for: uint8 without channels, or channels first in another type than uint8."""

_SMALLEST_SIDE = 5
"""The same for uint8 with channels first; more than channels are."""


@dataclass(frozen=True)
class ImageLayout:
    """How the images of one camera are stored.

    Attributes:
        stored: shape of one stored image.
        axes: its axes by name, in their order: ``"h w c"``, ``"c h w"`` or ``"h w"``.
        has_alpha: whether the fourth channel is alpha, which is left out.
    """

    stored: tuple[int, ...]
    axes: str = "h w c"
    has_alpha: bool = False

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of an image as it is read."""
        sizes = dict(zip(self.axes.split(), self.stored, strict=True))
        return sizes["h"], sizes["w"], sizes.get("c", 1) - self.has_alpha

    @property
    def is_plain(self) -> bool:
        """Whether images are read as they are stored."""
        return self.axes == "h w c" and not self.has_alpha

    def to_frames(self, images: np.ndarray, source: str = "images") -> np.ndarray:
        """Return stored images, (n, *stored), as (n, height, width, channels); a view.

        Args:
            images: as they are stored.
            source: file and camera, for messages.

        Raises:
            InputError: the fourth channel was opaque in the first images and is not in these.
        """
        if self.axes == "h w":
            return rearrange(images, "n h w -> n h w 1")
        if self.axes == "c h w":
            images = rearrange(images, "n c h w -> n h w c")
        if not self.has_alpha:
            return images
        alpha = images[..., 3]
        if not (alpha == 255).all():
            raise InputError(
                f"{source}: the fourth channel is 255 in the first images, as alpha is, but "
                f"down to {alpha.min()} in later ones; expected opaque images throughout: "
                "store three channels, and depth or a mask as an array of its own"
            )
        return images[..., :3]

    def with_alpha_of(self, images: np.ndarray) -> ImageLayout:
        """Return the layout for a camera that shows these images, (n, *stored).

        A fourth channel is alpha if it is opaque throughout; any other one, such as depth, stays.
        """
        frames = replace(self, has_alpha=False).to_frames(images)
        opaque = frames.shape[-1] == 4 and bool((frames[..., 3] == 255).all())
        return replace(self, has_alpha=opaque)

    def remark(self, name: str) -> str:
        """Return what became of the images of camera ``name``, empty if they are read as stored."""
        if self.is_plain:
            return ""
        kind = {"c h w": "channels first", "h w": "grey", "h w c": "RGBA"}[self.axes]
        alpha = " without alpha" if self.has_alpha else ""
        return f"{name}: {kind} {self.stored}, read as {self.frame_shape}{alpha}"


def image_layout(shape: Sequence[int], dtype: np.dtype) -> ImageLayout | None:
    """Return how images of this shape are stored, None for what is no image.

    Channels last win where both would do: (3, 96, 3) is 3 pixels high. Whether a fourth channel is
    alpha only the values say, see `ImageLayout.with_alpha_of`.

    Args:
        shape: of one step.
        dtype: as it is stored.
    """
    stored = tuple(int(size) for size in shape)
    if is_image(stored):
        return ImageLayout(stored)
    is_uint8 = dtype == np.uint8
    smallest = _SMALLEST_SIDE if is_uint8 else _SMALLEST_GUESS
    is_channels_first = len(stored) == 3 and stored[0] in CHANNELS and min(stored[1:]) >= smallest
    if is_channels_first and dtype.kind in "fiu":
        return ImageLayout(stored, "c h w")
    if len(stored) == 2 and is_uint8 and min(stored) >= _SMALLEST_GUESS:
        return ImageLayout(stored, "h w")
    return None
