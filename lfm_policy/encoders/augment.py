"""Augmentation of image batches: crop, shift and colour, the same for all frames of one sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lfm_policy.encoders.image_options import ImageEncoderConfig


@dataclass(frozen=True)
class View:
    """What is done to each sample of a batch; all tensors have shape (B,).

    Attributes:
        top: first row of the crop, int64; may be negative (the edge is repeated).
        left: first column of the crop, int64.
        colour: (B, 3) float32, brightness, contrast and saturation; None: unchanged.
    """

    top: Tensor
    left: Tensor
    colour: Tensor | None = None

    def repeat(self, n: int) -> View:
        """Return the view of one sample for ``n`` samples."""
        colour = None if self.colour is None else self.colour.expand(n, -1)
        return View(self.top.expand(n), self.left.expand(n), colour)


def centre_view(options: ImageEncoderConfig, n: int, size: tuple[int, int]) -> View:
    """Return the centre crop for ``n`` samples of images of ``size`` (height, width)."""
    height, width = options.crop_of(size)
    top = torch.full((n,), (size[0] - height) // 2)
    left = torch.full((n,), (size[1] - width) // 2)
    return View(top, left)


def random_view(
    options: ImageEncoderConfig,
    n: int,
    size: tuple[int, int],
    generator: torch.Generator | None = None,
) -> View:
    """Return random crops and colours for ``n`` samples; torch's global generator by default."""
    height, width = options.crop_of(size)
    shift = options.shift
    top = torch.randint(-shift, size[0] - height + shift + 1, (n,), generator=generator)
    left = torch.randint(-shift, size[1] - width + shift + 1, (n,), generator=generator)
    strength = torch.tensor([options.brightness, options.contrast, options.saturation])
    colour = None
    if bool(strength.any()):
        colour = (2 * torch.rand(n, 3, generator=generator) - 1) * strength
    return View(top, left, colour)


def crop_images(images: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """Return crops of ``size`` (h, w).

    Args:
        images: (B, T, H, W, C), any dtype.
        view: of each of the B samples.
        size: height and width of the crops.

    Returns:
        (B, T, h, w, C); rows and columns outside an image repeat its edge.
    """
    sides = (images.shape[2], images.shape[3])
    if size == sides and not bool(view.top.any() or view.left.any()):
        return images
    starts = []
    for axis, first in enumerate((view.top, view.left)):
        before = max(0, -int(first.min()))
        after = max(0, int(first.max()) + size[axis] - sides[axis])
        if before or after:  # the edge is repeated
            first_edge, last_edge = (images.narrow(2 + axis, i, 1) for i in (0, sides[axis] - 1))
            parts = [*[first_edge] * before, images, *[last_edge] * after]
            images = torch.cat(parts, dim=2 + axis)
        starts.append((first + before).tolist())
    # By slices, which are copied row by row and not pixel by pixel.
    crops = [
        images[i, :, top : top + size[0], left : left + size[1]]
        for i, (top, left) in enumerate(zip(*starts, strict=True))
    ]
    return torch.stack(crops)


def centre_crop(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return what `crop_images` does with `centre_view`, as a part of the same memory.

    Args:
        images: (B, T, H, W, C), any dtype.
        size: height and width of the crops, at most those of the images.

    Returns:
        (B, T, h, w, C).
    """
    top, left = ((images.shape[2 + i] - size[i]) // 2 for i in range(2))
    return images[:, :, top : top + size[0], left : left + size[1]]


def change_colours(images: Tensor, colour: Tensor) -> Tensor:
    """Return images with other brightness, contrast and saturation.

    Args:
        images: (B, T, h, w, C) floating point, 0 to 1.
        colour: (B, 3) changes of brightness, contrast and saturation.
    """
    brightness, contrast, saturation = (
        colour.to(images.device, images.dtype)[:, i, None, None, None, None] for i in range(3)
    )
    mean = images.mean(dim=(2, 3, 4), keepdim=True)
    images = mean + (images - mean) * (1 + contrast) + brightness
    grey = images.mean(dim=4, keepdim=True)
    return (grey + (images - grey) * (1 + saturation)).clamp(0, 1)
