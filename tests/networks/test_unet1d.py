"""The temporal U-Net."""

from __future__ import annotations

import pytest
import torch

from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.options import UNet1DConfig


def make(horizon: int, channels: list[int]) -> VelocityNetwork:
    torch.manual_seed(0)
    config = UNet1DConfig(channels=channels, n_groups=4, embed_dim=8, time_embed_dim=8)
    network = config.create((horizon, 2), 0)
    torch.nn.init.normal_(network.get_parameter("proj_out.weight"))
    return network.eval()


@pytest.mark.parametrize("horizon", [5, 6, 7])
def test_padding_repeats_the_last_action(horizon: int) -> None:
    """A chunk that is padded inside gives what the same weights give on the padded chunk."""
    short, full = make(horizon, [8, 8, 16]), make(8, [8, 8, 16])
    x, t = torch.randn(3, horizon, 2), torch.rand(3)
    padded = torch.cat([x, x[:, -1:].expand(-1, 8 - horizon, -1)], dim=1)
    torch.testing.assert_close(short(x, t), full(padded, t)[:, :horizon])


def test_the_lower_levels_see_the_whole_chunk() -> None:
    network = make(16, [8, 8, 8])
    x = torch.randn(1, 16, 2, requires_grad=True)
    network(x, torch.rand(1))[0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("channels", [[8], [8, 12], [8, 4, 16, 12]])
def test_any_number_of_levels(channels: list[int]) -> None:
    network = make(9, channels)
    assert network(torch.randn(2, 9, 2), torch.rand(2)).shape == (2, 9, 2)
