"""Where feature maps light up: one expected image position per map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SpatialSoftmax(nn.Module):
    """Expected position of each map under its softmax (Finn et al. 2016, arXiv:1509.06113).

    Maps (B, K, h, w) to (B, 2 K): all x, then all y, from -1 to 1.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        x = torch.linspace(-1, 1, width) if width > 1 else torch.zeros(1)
        y = torch.linspace(-1, 1, height) if height > 1 else torch.zeros(1)
        self._n_positions = height * width
        grid = torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)
        self.register_buffer("_grid", grid, persistent=False)
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the positions, (B, 2 K)."""
        grid = self.get_buffer("_grid")
        attention = torch.softmax(maps.flatten(2) / self.temperature, dim=2)
        return (attention @ grid).transpose(1, 2).flatten(1)
