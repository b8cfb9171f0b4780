"""Resizing camera images to the same numbers on every machine and in every runtime."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

TIE = 0.49
"""Added before rounding down. Averages of whole numbers often lie exactly half way between two
levels, where the last bit, which differs between machines, would decide; a hundredth beside that,
it has no say."""


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
        images = frames.flatten(0, 1).permute(0, 3, 1, 2).to(torch.float32)
        resized = self.get_buffer("_rows") @ images @ self.get_buffer("_columns")
        whole = (resized + TIE).floor().clamp(0, 255).to(torch.uint8)
        return whole.permute(0, 2, 3, 1).unflatten(0, (n, steps))


def _weights(size_in: int, size: int) -> Tensor:
    """Return the matrix (size, size_in) that resizes a column."""
    columns = torch.eye(size_in)[None, None]
    return functional.interpolate(columns, (size, size_in), mode="bilinear", antialias=True)[0, 0]
