"""ResNets of any stages, with group norms or with biases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.encoders.augment import centre_view
from lfm_policy.encoders.image_options import ResNetConfig
from lfm_policy.errors import InputError

SMALL: dict[str, Any] = {"stem": 16, "widths": [16, 32], "blocks": [1, 2], "keypoints": 5}


def frames(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("norm", ["group", "none"])
@pytest.mark.parametrize(("channels", "size"), [(1, (9, 9)), (3, (33, 65)), (4, (70, 47))])
def test_it_sees_any_channels_and_sizes(norm: str, channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(norm=norm, output_dim=7, rectified=False, **SMALL)
    encoder = config.create("camera", (*size, channels))
    found = encoder(frames(2, 2, *size, channels))
    assert found.shape == (2, 2, 7) and (found[0] - found[1]).abs().max() > 1e-5
    with pytest.raises(InputError, match="sees 8 x 8 pixels, expected at least 8 x 9"):
        config.create("camera", (8, 8, channels))
    found.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    norms = [module for module in encoder.modules() if isinstance(module, nn.GroupNorm)]
    assert bool(norms) == (norm == "group")


def test_the_stages_of_resnet_34() -> None:
    with torch.device("meta"):
        encoder = ResNetConfig(blocks=[3, 4, 6, 3]).create("camera", (96, 96, 3))
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 1 + 2 * 16 + 3 + 1


def test_features_are_cut_off_at_zero() -> None:
    torch.manual_seed(0)
    found = ResNetConfig(**SMALL).create("camera", (40, 40, 3))(frames(4, 1, 40, 40, 3))
    assert bool((found >= 0).all()) and bool((found == 0).any()) and bool((found > 0).any())


@pytest.mark.parametrize(("side", "floor", "rounded"), [(5, 0, 0), (6, 1, 1), (7, 1, 2), (9, 2, 2)])
def test_the_centre_of_torchvision(side: int, floor: int, rounded: int) -> None:
    for expected, asked in ((floor, False), (rounded, True)):
        config = ResNetConfig(crop=[4, 4], rounded_centre=asked)
        assert config.centre_of((side, 4)) == (expected, 0)
        assert centre_view(config, 1, (side, 4)).top.tolist() == [expected]


def test_resized_frames_keep_fractions_of_levels_where_asked() -> None:
    seen = []
    for whole in (True, False):
        config = ResNetConfig(resize=[32, 40], whole=whole, **SMALL)
        encoder = config.create("camera", (50, 63, 3)).eval()
        encoder.features = lambda images: seen.append(images) or images[:, :, 0, 0]  # type: ignore[assignment, func-returns-value, method-assign]
        encoder(frames(1, 1, 50, 63, 3))
    levels = [(images + 1) * 127.5 for images in seen]
    assert float((levels[0] - levels[0].round()).abs().max()) < 1e-3
    assert float((levels[1] - levels[1].round()).abs().max()) > 0.1
    assert float((levels[0] - levels[1]).abs().max()) < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": [1]}, r"blocks is \[1\], expected as many numbers as widths"),
        ({"widths": [16, 24]}, "group_size is 16, expected a divisor of 24 channels"),
        ({"norm": "batch"}, "norm is 'batch'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResNetConfig(**{**SMALL, **options})
