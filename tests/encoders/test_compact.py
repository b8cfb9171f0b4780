"""The compact image encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lfm_policy.encoders.image_options import CompactConfig
from lfm_policy.errors import InputError


def frames(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_a_frame_costs_at_most_20_mflop() -> None:
    encoder = CompactConfig(crop=[84, 84]).create("camera", (96, 96, 3)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(frames(1, 1, 96, 96, 3))
    # One multiplication and one addition are two.
    assert 15e6 < counter.get_total_flops() <= 20e6


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (33, 16), (47, 50), (96, 96)])
def test_it_sees_any_channels_and_sizes(channels: int, size: tuple[int, int]) -> None:
    encoder = CompactConfig(width=8, keypoints=5).create("camera", (*size, channels))
    features = encoder(frames(2, 3, *size, channels))
    assert features.shape == (2, 3, encoder.feature_dim) == (2, 3, 10)
    assert features.abs().max() <= 1


@pytest.mark.parametrize("n_blocks", [0, 1, 3])
def test_gradients_reach_every_parameter(n_blocks: int) -> None:
    torch.manual_seed(0)
    encoder = CompactConfig(width=8, keypoints=4, n_blocks=n_blocks).create("c", (24, 24, 3))
    encoder(frames(4, 2, 24, 24, 3)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name


def test_frames_do_not_see_one_another() -> None:
    encoder = CompactConfig(width=8).create("camera", (24, 24, 3)).eval()
    images = frames(3, 2, 24, 24, 3)
    alone = torch.stack([encoder(images[i : i + 1, j : j + 1])[0, 0] for i, j in ((0, 0), (2, 1))])
    together = encoder(images)
    torch.testing.assert_close(torch.stack([together[0, 0], together[2, 1]]), alone)


def test_the_same_seed_gives_the_same_encoder() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        states.append(CompactConfig(width=8).create("camera", (24, 24, 3)).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_it_can_be_made_without_memory() -> None:
    config = CompactConfig(width=1024, n_blocks=32, keypoints=4096)
    with torch.device("meta"):
        encoder = config.create("camera", (4096, 4096, 4))
    assert all(tensor.is_meta for tensor in encoder.state_dict().values())


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="'compact' encoder sees 15 x 96 pixels, expected"):
        CompactConfig(crop=[15, 96]).create("camera", (96, 96, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 30}, "width is 30, expected .* a multiple of 4"),
        ({"width": 10**6}, "width is 1000000, expected an integer from 4 to 1024"),
        ({"n_blocks": -1}, "n_blocks is -1"),
        ({"keypoints": 0}, "keypoints is 0"),
    ],
)
def test_bad_options_print_their_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompactConfig(**options)
