"""A small convolutional encoder for CPUs: 17.9 MFLOP for an 84 x 84 crop, as it is by default.

```text
image --conv/4--> quarter --conv/2, residual blocks--> eighth --1x1--> maps --softmax--> keypoints
                     |      (+ coordinates)              |      --1x1--> values ------->  values
                     |                                   |
                     +----1x1---->(+)<------1x1, x2------+
                                   |
                               fine maps, fine values --softmax--> fine keypoints, fine values
```
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.device import full_precision
from lfm_policy.encoders.image import ImageEncoder
from lfm_policy.encoders.image_options import EACH, GROUPS, CompactConfig
from lfm_policy.encoders.spatial_softmax import SpatialSoftmax

STEM = 3
"""Layers from the image to a quarter of its resolution."""

Size = tuple[int, int]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.mix(torch.relu(self.norm(self.spread(x))))
        return result


class _Coordinates(nn.Module):
    """What a convolution of two further channels, the coordinates, adds to its result.

    CoordConv (Liu et al. 2018, arXiv:1807.03247). A convolution of joined channels is the sum of
    those of each, and this one is the same for all images: an export computes it once.
    """

    def __init__(self, size: Size, width: int) -> None:
        super().__init__()
        y, x = (torch.linspace(-1, 1, side) for side in size)
        self.register_buffer(
            "_grid", torch.stack(torch.meshgrid(x, y, indexing="xy"))[None], persistent=False
        )
        self.conv = nn.Conv2d(2, width, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.conv(self.get_buffer("_grid"))
        return result


class _FineScale(nn.Module):
    """Feature maps of a quarter of the resolution that know what those of an eighth know."""

    def __init__(self, size: Size, width: int, wide: int) -> None:
        super().__init__()
        self._size = size
        self.lateral = nn.Conv2d(width, width, 1)
        self.context = nn.Conv2d(wide, width, 1, bias=False)

    def forward(self, quarter: Tensor, eighth: Tensor) -> Tensor:
        context = functional.interpolate(self.context(eighth), scale_factor=2.0, mode="nearest")
        height, width = self._size
        return torch.relu(self.lateral(quarter) + context[:, :, :height, :width])


class _Keypoints(nn.Module):
    """Keypoints of further feature maps, with what the options ask for beside their places."""

    def __init__(self, config: CompactConfig, width: int, keypoints: int, size: Size) -> None:
        super().__init__()
        self.maps = nn.Conv2d(width, keypoints, 1, bias=False)
        self.values = _values(config, width, keypoints)
        self.positions = _positions(config, keypoints, size)

    def forward(self, features: Tensor) -> Tensor:
        with full_precision(features.device):
            features = features.float()
            values = None if self.values is None else self.values(features)
            # The few weights are divided, and not the many numbers of the maps.
            weight = self.maps.weight / self.positions.temperature.view(-1, 1, 1, 1)
            return self.positions.of_logits(functional.conv2d(features, weight), values)


def _values(config: CompactConfig, width: int, keypoints: int) -> nn.Conv2d | None:
    return nn.Conv2d(width, keypoints * config.values, 1) if config.values else None


def _positions(config: CompactConfig, keypoints: int, size: Size) -> SpatialSoftmax:
    own = keypoints if config.temperatures == EACH else 0
    return SpatialSoftmax(*size, own, config.spread, config.temperature)


class CompactEncoder(ImageEncoder):
    """Two strided convolutions, residual blocks, and the positions of feature maps.

    Everything happens at a quarter and an eighth of the resolution, where a convolution on a CPU
    is cheap; the spatial softmax then finds positions between pixels.
    """

    same_work = True

    def __init__(
        self, config: CompactConfig, frame_shape: tuple[int, int, int], crop: Size
    ) -> None:
        super().__init__(config, frame_shape, config.feature_dim)
        width, wide = config.width, 2 * config.width
        self.layers = nn.Sequential(
            nn.Conv2d(frame_shape[2], width, 6, stride=4, padding=1),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(),
            nn.Conv2d(width, wide, 3, stride=2, padding=1),
            *(_Residual(wide) for _ in range(config.n_blocks)),
            nn.GroupNorm(GROUPS, wide),
            nn.ReLU(),
            # No bias: the softmax over positions takes no notice of one.
            nn.Conv2d(wide, config.keypoints, 1, bias=False),
        )
        quarter = ((crop[0] + 2 - 6) // 4 + 1, (crop[1] + 2 - 6) // 4 + 1)
        eighth = ((quarter[0] - 1) // 2 + 1, (quarter[1] - 1) // 2 + 1)
        self.positions = _positions(config, config.keypoints, eighth)
        # What is asked for beside these comes last, and draws its weights last.
        self.values = _values(config, wide, config.keypoints)
        self.coordinates = _Coordinates(quarter, wide) if config.coordinates else None
        self.fine: _FineScale | None = None
        if config.fine_keypoints:
            self.fine = _FineScale(quarter, width, wide)
            self.fine_keypoints = _Keypoints(config, width, config.fine_keypoints, quarter)
        self.output: nn.Linear | None = None
        if config.output_dim:
            self.output = nn.Linear(config.n_numbers, config.output_dim)

    def features(self, images: Tensor) -> Tensor:
        """Return the numbers of all keypoints, or the last layer's of them, (B, feature_dim)."""
        quarter = self.layers[:STEM](images)
        start = self.layers[STEM](quarter)
        if self.coordinates is not None:
            start = self.coordinates(start)
        eighth = self.layers[STEM + 1 : -1](start)
        # Places and what is made of them stay in float32 under autocast.
        with full_precision(images.device):
            eighth = eighth.float()
            values = None if self.values is None else self.values(eighth)
            found: Tensor = self.positions(self.layers[-1](eighth), values)
            if self.fine is not None:
                fine = self.fine(quarter.float(), eighth)
                found = torch.cat([found, self.fine_keypoints(fine)], dim=1)
            if self.output is not None:
                found = self.output(found)
        return found
