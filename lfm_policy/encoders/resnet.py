"""ResNets as other frameworks have them, for policies that come from there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lfm_policy.device import full_precision
from lfm_policy.encoders.image import ImageEncoder
from lfm_policy.encoders.image_options import ResNetConfig
from lfm_policy.encoders.resnet18 import REDUCTION, BasicBlock
from lfm_policy.encoders.spatial_softmax import SpatialSoftmax


class ResNetEncoder(ImageEncoder):
    """A ResNet of basic blocks, then the positions of feature maps, then a linear layer.

    Images are scaled channel by channel first. Without norms, the convolutions have biases: a
    BatchNorm whose statistics stay as they are is part of the convolution before it.

    Attributes:
        scale: of each channel of images from -1 to 1, (C,).
        shift: added to it, (C,).
    """

    same_work = True

    def __init__(
        self, config: ResNetConfig, frame_shape: tuple[int, int, int], crop: tuple[int, int]
    ) -> None:
        super().__init__(config, frame_shape, config.output_dim)
        channels, bias = frame_shape[2], config.norm == "none"

        def norm(width: int) -> nn.Module:
            return nn.Identity() if bias else nn.GroupNorm(width // config.group_size, width)

        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("shift", torch.zeros(channels))
        self.scale: Tensor
        self.shift: Tensor
        width = config.stem
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=bias),
            norm(width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks = []
        for stage, (width_out, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
            for n in range(count):
                stride = 2 if stage and not n else 1
                blocks.append(BasicBlock(width, width_out, stride, norm=norm, bias=bias))
                width = width_out
        self.blocks = nn.Sequential(*blocks)
        # No bias: the softmax over positions takes no notice of one.
        self.maps = nn.Conv2d(width, config.keypoints, 1, bias=False)
        reduction = REDUCTION >> (4 - len(config.widths))
        height, width_out = (-(-side // reduction) for side in crop)
        self.positions = SpatialSoftmax(height, width_out)
        self.output = nn.Linear(2 * config.keypoints, config.output_dim)
        self.rectified = config.rectified

    def features(self, images: Tensor) -> Tensor:
        """Return the features, (B, output_dim)."""
        scaled = images * self.scale[:, None, None] + self.shift[:, None, None]
        inside = self.blocks(self.stem(scaled))
        # Places and what is made of them stay in float32 under autocast.
        with full_precision(images.device):
            found: Tensor = self.output(self.positions(self.maps(inside.float())))
        return torch.relu(found) if self.rectified else found
