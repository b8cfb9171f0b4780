"""ResNet-18 with GroupNorm and spatial softmax, the field's reference for camera images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lfm_policy.device import full_precision
from lfm_policy.encoders.image import ImageEncoder
from lfm_policy.encoders.image_options import GROUP_SIZE, ResNet18Config
from lfm_policy.encoders.spatial_softmax import SpatialSoftmax

STAGES = 4
REDUCTION = 32
"""Pixels of the image per position of the last feature maps."""


def _norm(width: int) -> nn.GroupNorm:
    # Instead of BatchNorm, which a running average of the weights and small batches disturb.
    return nn.GroupNorm(width // GROUP_SIZE, width)


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut."""

    def __init__(
        self,
        width_in: int,
        width: int,
        stride: int,
        *,
        norm: Callable[[int], nn.Module] = _norm,
        bias: bool = False,
    ) -> None:
        """Build a block.

        Args:
            width_in: channels of what comes in.
            width: channels of what comes out.
            stride: of the first convolution.
            norm: makes the norm after each convolution.
            bias: of the convolutions.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=bias)
        self.norm1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm2 = norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=bias), norm(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width_in, h, w) to (B, width, h / stride, w / stride)."""
        inside = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(inside + self.shortcut(x))


class ResNet18Encoder(ImageEncoder):
    """ResNet-18, then the positions of feature maps, then a linear layer."""

    same_work = True

    def __init__(
        self, config: ResNet18Config, frame_shape: tuple[int, int, int], crop: tuple[int, int]
    ) -> None:
        super().__init__(config, frame_shape, config.output_dim)
        width = config.width
        layers: list[nn.Module] = [
            nn.Conv2d(frame_shape[2], width, 7, stride=2, padding=3, bias=False),
            _norm(width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        width_in = width
        for stage in range(STAGES):
            layers.append(BasicBlock(width_in, width << stage, 1 if stage == 0 else 2))
            layers.append(BasicBlock(width << stage, width << stage, 1))
            width_in = width << stage
        # No bias: the softmax over positions takes no notice of one.
        layers.append(nn.Conv2d(width_in, config.keypoints, 1, bias=False))
        self.layers = nn.Sequential(*layers)
        height, width_out = (-(-side // REDUCTION) for side in crop)
        self.positions = SpatialSoftmax(height, width_out)
        self.output = nn.Linear(2 * config.keypoints, config.output_dim)

    def features(self, images: Tensor) -> Tensor:
        """Return the features, (B, output_dim)."""
        maps = self.layers[:-1](images)
        # Places and what is made of them stay in float32 under autocast.
        with full_precision(images.device):
            result: Tensor = self.output(self.positions(self.layers[-1](maps.float())))
        return result
