"""Image encoders of other frameworks, against the same layers written down plainly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.encoders.image_options import ResNetConfig
from lfm_policy.errors import InputError
from lfm_policy.importing.cameras import read_camera

KEYPOINTS, FEATURES, WIDTHS = 3, 5, [16, 32, 32, 48]


class Block(nn.Module):
    """A basic block with torchvision's names."""

    def __init__(self, width_in: int, width: int, stride: int, norm: Callable[[int], Any]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        if stride != 1 or width_in != width:
            shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, norm(width))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inside + (self.downsample(x) if hasattr(self, "downsample") else x))


class Foreign(nn.Module):
    """What LeRobot makes of a normalised image: backbone, positions, a linear layer, ReLU."""

    def __init__(self, norm: str) -> None:
        super().__init__()

        def made(width: int) -> nn.Module:
            return nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width // 16, width)

        stages, before = [], WIDTHS[0]
        for n, width in enumerate(WIDTHS):
            first = Block(before, width, 2 if n else 1, made)
            stages.append(nn.Sequential(first, Block(width, width, 1, made)))
            before = width
        self.backbone = nn.Sequential(
            nn.Conv2d(3, WIDTHS[0], 7, 2, 3, bias=False),
            made(WIDTHS[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *stages,
        )
        self.pool = nn.Module()
        self.pool.nets = nn.Conv2d(before, KEYPOINTS, 1)
        self.out = nn.Linear(2 * KEYPOINTS, FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool.nets(self.backbone(images))
        height, width = maps.shape[2:]
        x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        grid = torch.from_numpy(np.stack([x.ravel(), y.ravel()], 1)).float()
        positions = maps.flatten(2).softmax(-1) @ grid
        return functional.relu(self.out(positions.flatten(1)))


def foreign(norm: str) -> Foreign:
    torch.manual_seed(0)
    made = Foreign(norm)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(3):  # statistics that are not 0 and 1
            made.train()(torch.randn(4, 3, 64, 64) * 2 + 1)
    return made.eval()


SCALE, SHIFT = np.array([2.0, 3.0, 4.0]), np.array([-0.5, 0.25, 0.0])


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(
    ("resize", "crop", "top", "left"),
    [([], [], 0, 0), ([], [67, 65], 2, 6), ([48, 56], [43, 41], 2, 8)],
)
def test_features_are_the_same(
    norm: str, resize: list[int], crop: list[int], top: int, left: int
) -> None:
    encoder, frame = foreign(norm), (72, 77, 3)
    weights = encoder.state_dict()
    camera = read_camera(
        weights, "file", frame=frame, resize=resize, crop=crop, scale=SCALE, shift=SHIFT
    )
    ours = ResNetConfig(**camera.options).create("image", frame).eval()
    ours.load_state_dict(camera.weights)
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (2, 1, *frame), dtype=torch.uint8, generator=generator)
    images = frames[:, 0].permute(0, 3, 1, 2).float() / 255
    images = images * torch.tensor(SCALE).float()[:, None, None]
    images = images + torch.tensor(SHIFT).float()[:, None, None]
    if resize:
        images = functional.interpolate(images, resize, mode="bilinear", antialias=True)
    height, width = crop or images.shape[2:]
    expected = encoder(images[:, :, top : top + height, left : left + width])
    with torch.no_grad():
        torch.testing.assert_close(ours(frames)[:, 0], expected, atol=2e-5, rtol=1e-4)


def test_what_is_not_supported() -> None:
    options: dict[str, Any] = {"resize": [], "crop": [], "scale": SCALE, "shift": SHIFT}
    weights = foreign("group").state_dict()
    with pytest.raises(InputError, match="at least 2 x 2"):
        read_camera(weights, "file", frame=(32, 64, 3), **options)
    grid = {**weights, "pool.pos_grid": torch.zeros(9, 2)}
    with pytest.raises(InputError, match="has 9 positions, expected 2 x 3"):
        read_camera(grid, "file", frame=(64, 96, 3), **options)
    bottleneck = {**weights, "backbone.4.0.conv3.weight": torch.zeros(1)}
    with pytest.raises(InputError, match="ResNet-50"):
        read_camera(bottleneck, "file", frame=(64, 96, 3), **options)
    del weights["backbone.5.1.bn2.bias"]
    with pytest.raises(InputError, match=r"backbone\.5\.1\.bn2\.bias"):
        read_camera(weights, "file", frame=(64, 96, 3), **options)
