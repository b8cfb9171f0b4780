"""Resizing of camera frames: when they are decoded for training, and in a policy's pipeline."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

TIE = 0.49
"""Added before rounding down. Averages of whole numbers often lie exactly half way between two
levels, where the last bit, which differs between machines, would decide; a hundredth beside that,
it has no say."""

FRAMES_AT_ONCE = 32


class Resize(nn.Module):
    """Bilinear resizing with antialiasing, as two matrix products.

    The weights are those of torch's interpolation. As matrices they can be exported: ONNX
    Runtime's own antialiasing differs from it by up to 13 levels of 255 (version 1.31).
    """

    def __init__(self, size_in: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("_rows", _weights(size_in[0], size[0]), persistent=False)
        self.register_buffer("_columns", _weights(size_in[1], size[1]).T, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return resized images in whole levels, as they would have been recorded at this size.

        Args:
            frames: (B, T, height, width, C) uint8.

        Returns:
            (B, T, new height, new width, C) uint8.
        """
        n, steps = frames.shape[:2]
        # As bytes, and not as floats, is a camera's layout turned into that of matrices.
        channels = rearrange(frames.flatten(0, 1), "n h w c -> n c h w").contiguous()
        images = channels.to(torch.float32)
        resized = self.get_buffer("_rows") @ images @ self.get_buffer("_columns")
        whole = (resized + TIE).floor().clamp(0, 255).to(torch.uint8)
        return rearrange(whole, "n c h w -> n h w c").unflatten(0, (n, steps))


def _weights(size_in: int, size: int) -> Tensor:
    """Return the matrix (size, size_in) that resizes a column."""
    columns = torch.eye(size_in)[None, None]
    return functional.interpolate(columns, (size, size_in), mode="bilinear", antialias=True)[0, 0]


def resized_frames(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return frames (n, height, width, C) uint8 as (n, *size, C), as `Resize` makes them.

    They are returned themselves if they have this size already. Only some of them at a time are in
    memory as floating point.
    """
    if frames.shape[1:3] == size:
        return frames
    resize = Resize(frames.shape[1:3], size)
    resized = np.empty((len(frames), *size, frames.shape[3]), np.uint8)
    for begin in range(0, len(frames), FRAMES_AT_ONCE):
        part = np.ascontiguousarray(frames[begin : begin + FRAMES_AT_ONCE])
        resized[begin : begin + len(part)] = resize(torch.from_numpy(part)[:, None])[:, 0]
    return resized
