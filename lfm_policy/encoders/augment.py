"""Augmentation of image batches: crop, shift and colour, the same for all frames of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    top, left = options.centre_of(size)
    return View(torch.full((n,), top), torch.full((n,), left))


def random_view(
    options: ImageEncoderConfig,
    n: int,
    size: tuple[int, int],
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> View:
    """Return random crops and colours for ``n`` samples.

    Args:
        options: how far they go.
        n: B.
        size: (height, width) of the images.
        generator: of the random numbers; torch's global one of the device by default.
        device: where they are drawn, by default the CPU.
    """
    height, width = options.crop_of(size)
    shift = options.shift
    drawn_with: dict[str, Any] = {"generator": generator, "device": device}
    top = torch.randint(-shift, size[0] - height + shift + 1, (n,), **drawn_with)
    left = torch.randint(-shift, size[1] - width + shift + 1, (n,), **drawn_with)
    strengths = (options.brightness, options.contrast, options.saturation)
    colour = None
    if any(strengths):
        drawn = 2 * torch.rand(n, 3, **drawn_with) - 1
        columns = zip(drawn.unbind(1), strengths, strict=True)
        colour = torch.stack([column * strength for column, strength in columns], dim=1)
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
    if images.device.type != "cpu":
        return _crops_by_index(images, view, size)
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


def _crops_by_index(images: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """Return `crop_images` without a look at the numbers of the view, for which a GPU would wait.

    Every pixel is fetched by its place, which a GPU does as fast as copying rows.
    """
    device = images.device
    place = []
    for axis, first in enumerate((view.top, view.left)):
        steps = torch.arange(size[axis], device=device)
        ends = first.to(device)[:, None] + steps
        place.append(ends.clamp(0, images.shape[2 + axis] - 1))  # outside, the edge is repeated
    rows, columns = place
    n, frames = images.shape[:2]
    sample = torch.arange(n, device=device)[:, None, None, None]
    frame = torch.arange(frames, device=device)[None, :, None, None]
    return images[sample, frame, rows[:, None, :, None], columns[:, None, None, :]]


def centre_crop(images: Tensor, first: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return what `crop_images` does with `centre_view`, as a part of the same memory.

    Args:
        images: (B, T, H, W, C), any dtype.
        first: first row and column.
        size: height and width of the crops, at most those of the images.

    Returns:
        (B, T, h, w, C).
    """
    top, left = first
    return images[:, :, top : top + size[0], left : left + size[1]]


def change_colours(images: Tensor, colour: Tensor) -> Tensor:
    """Return images with other brightness, contrast and saturation.

    Args:
        images: (B, T, h, w, C) floating point, 0 to 1; what comes after three channels is no
            colour, and stays as it is.
        colour: (B, 3) changes of brightness, contrast and saturation.
    """
    if images.shape[-1] > 3:
        return torch.cat([change_colours(images[..., :3], colour), images[..., 3:]], dim=-1)
    brightness, contrast, saturation = (
        colour.to(images.device, images.dtype)[:, i, None, None, None, None] for i in range(3)
    )
    mean = images.mean(dim=(2, 3, 4), keepdim=True)
    images = mean + (images - mean) * (1 + contrast) + brightness
    grey = images.mean(dim=4, keepdim=True)
    return (grey + (images - grey) * (1 + saturation)).clamp(0, 1)
