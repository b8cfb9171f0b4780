"""A small convolutional encoder for CPUs: 17.9 MFLOP for an 84 x 84 crop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lfm_policy.encoders.image import ImageEncoder, SpatialSoftmax
from lfm_policy.encoders.image_options import GROUPS, CompactConfig


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.mix(torch.relu(self.norm(self.spread(x))))
        return result


class CompactEncoder(ImageEncoder):
    """Two strided convolutions, residual blocks, and the positions of feature maps.

    Everything happens at a quarter and an eighth of the resolution, where a convolution on a CPU
    is cheap; the spatial softmax then finds positions between pixels.
    """

    def __init__(
        self, config: CompactConfig, frame_shape: tuple[int, int, int], crop: tuple[int, int]
    ) -> None:
        super().__init__(config, frame_shape, 2 * config.keypoints)
        wide = 2 * config.width
        self.layers = nn.Sequential(
            nn.Conv2d(frame_shape[2], config.width, 6, stride=4, padding=1),
            nn.GroupNorm(GROUPS, config.width),
            nn.ReLU(),
            nn.Conv2d(config.width, wide, 3, stride=2, padding=1),
            *(_Residual(wide) for _ in range(config.n_blocks)),
            nn.GroupNorm(GROUPS, wide),
            nn.ReLU(),
            # No bias: the softmax over positions takes no notice of one.
            nn.Conv2d(wide, config.keypoints, 1, bias=False),
        )
        height, width = ((side + 2 - 6) // 4 + 1 for side in crop)
        self.positions = SpatialSoftmax((height - 1) // 2 + 1, (width - 1) // 2 + 1)

    def features(self, images: Tensor) -> Tensor:
        """Return the positions, (B, 2 * keypoints)."""
        positions: Tensor = self.positions(self.layers(images))
        return positions
