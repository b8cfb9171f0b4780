"""ResNet-18 with GroupNorm and spatial softmax."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.encoders.image_options import ResNet18Config
from lfm_policy.errors import InputError


def frames(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_it_has_the_convolutions_of_resnet_18() -> None:
    with torch.device("meta"):
        encoder = ResNet18Config().create("camera", (96, 96, 3))
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    # The first one, two per block in eight blocks, three shortcuts, and the one to keypoints.
    assert len(convolutions) == 1 + 16 + 3 + 1
    own = sum(m.weight.numel() for m in convolutions[:-1])
    # 11,689,512 parameters less the classifier (513,000) and the normalisation (9,600).
    assert own == 11_689_512 - 513_000 - 9_600
    assert not any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules())


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(33, 33), (33, 65), (70, 47)])
def test_it_sees_any_channels_and_sizes(channels: int, size: tuple[int, int]) -> None:
    config = ResNet18Config(width=16, keypoints=5, output_dim=7)
    encoder = config.create("camera", (*size, channels))
    seen = encoder(frames(2, 2, *size, channels))
    assert seen.shape == (2, 2, 7) and (seen[0] - seen[1]).abs().max() > 1e-4
    assert config.create("camera", (32, 64, channels)).feature_dim == 7
    with pytest.raises(InputError, match="sees 32 x 32 pixels, expected at least 32 x 33"):
        config.create("camera", (32, 32, channels))
    assert encoder.feature_dim == 7


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    encoder = ResNet18Config(width=16, keypoints=4, output_dim=6).create("c", (64, 64, 3))
    encoder(frames(4, 2, 64, 64, 3)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name


def test_frames_do_not_see_one_another() -> None:
    encoder = ResNet18Config(width=16).create("camera", (40, 40, 3)).eval()
    images = frames(3, 2, 40, 40, 3)
    torch.testing.assert_close(
        encoder(images)[2, 1], encoder(images[2:, 1:])[0, 0], rtol=1e-4, atol=1e-5
    )


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="'resnet18' encoder sees 96 x 31 pixels, expected at"):
        ResNet18Config(crop=[96, 31]).create("camera", (96, 96, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 24}, "width is 24, expected .* a multiple of 16"),
        ({"width": 8}, "width is 8, expected an integer from 16 to 1024"),
        ({"keypoints": 10**6}, "keypoints is 1000000"),
        ({"output_dim": 0}, "output_dim is 0"),
    ],
)
def test_bad_options_print_their_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResNet18Config(**options)
