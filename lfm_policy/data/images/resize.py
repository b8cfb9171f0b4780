"""Resizing of camera frames: when they are decoded for training, and in a policy's pipeline."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.device import full_precision

TIE = 0.49
"""Added before rounding down. Averages of whole numbers often lie exactly half way between two
levels, where the last bit, which differs between machines, would decide; a hundredth beside that,
it has no say."""

BAND = 16
"""Rows or columns that are made at once: of a large image they need only a part, since a pixel is
the average of those around it, and all other weights are zero."""

BYTES_AT_ONCE = 2**20
"""Of frames whose numbers, four times as large, fit into the caches of a CPU."""


class Resize(nn.Module):
    """Bilinear resizing with antialiasing, as products of matrices.

    The weights are those of torch's interpolation. As matrices they can be exported: ONNX
    Runtime's own antialiasing differs from it by up to 13 levels of 255 (version 1.31).
    """

    def __init__(
        self, size_in: tuple[int, int], size: tuple[int, int], *, whole: bool = True
    ) -> None:
        """Build it.

        Args:
            size_in: height and width of the frames.
            size: what they become.
            whole: whether results are whole levels.
        """
        super().__init__()
        self._whole = whole
        self._rows = self._bands("_row", _weights(size_in[0], size[0]))
        self._columns = self._bands("_column", _weights(size_in[1], size[1]))

    def _bands(self, name: str, weights: Tensor) -> list[tuple[str, int, int]]:
        """Register the weights in bands; return of each its name, and where its pixels are."""
        bands = []
        for i, band in enumerate(weights.split(BAND)):
            used = torch.nonzero(band.any(dim=0)).flatten().tolist()
            first, end = used[0], used[-1] + 1
            self.register_buffer(f"{name}{i}", band[:, first:end].clone(), persistent=False)
            bands.append((f"{name}{i}", first, end))
        return bands

    def forward(self, frames: Tensor) -> Tensor:
        """Return resized images, in whole levels as they would have been recorded at this size.

        Args:
            frames: (B, T, height, width, C) uint8.

        Returns:
            (B, T, new height, new width, C) uint8, or float32 where levels need not be whole.
        """
        n, steps, _, width, channels = frames.shape
        # Rows first, in a camera's own layout: what is turned into that of matrices is small then.
        images = frames.flatten(0, 1).flatten(2)
        with full_precision(frames.device):
            rows = [
                self.get_buffer(name) @ images[:, first:end].to(torch.float32)
                for name, first, end in self._rows
            ]
            fewer = rearrange(torch.cat(rows, dim=1), "n h (w c) -> n (h c) w", w=width)
            columns = [
                fewer[:, :, first:end] @ self.get_buffer(name).T
                for name, first, end in self._columns
            ]
            resized = torch.cat(columns, dim=2)
        if self._whole:
            resized = (resized + TIE).floor().clamp(0, 255).to(torch.uint8)
        return rearrange(resized, "n (h c) w -> n h w c", c=channels).unflatten(0, (n, steps))


def _weights(size_in: int, size: int) -> Tensor:
    """Return the matrix (size, size_in) that resizes a column."""
    # On the CPU also where networks are made without numbers, to count them.
    columns = torch.eye(size_in, device="cpu")[None, None]
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
    at_once = max(1, BYTES_AT_ONCE // frames[0].nbytes) if len(frames) else 1
    for begin in range(0, len(frames), at_once):
        part = np.ascontiguousarray(frames[begin : begin + at_once])
        resized[begin : begin + len(part)] = resize(torch.from_numpy(part)[:, None])[:, 0]
    return resized
