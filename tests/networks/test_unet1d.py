"""The temporal U-Net."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.options import UNet1DConfig
from lfm_policy.networks.unet1d import conv_as_product


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


@given(
    batch=st.integers(1, 3),
    c_in=st.integers(1, 5),
    c_out=st.integers(1, 5),
    time=st.integers(1, 9),
    half=st.integers(0, 3),
    has_bias=st.booleans(),
)
def test_a_product_of_matrices_is_the_convolution(
    batch: int, c_in: int, c_out: int, time: int, half: int, has_bias: bool
) -> None:
    torch.manual_seed(0)
    size = 2 * half + 1
    conv = torch.nn.Conv1d(c_in, c_out, size, padding=half, bias=has_bias).double()
    x = torch.randn(batch, c_in, time, dtype=torch.float64, requires_grad=True)
    found, expected = conv_as_product(x, conv.weight, conv.bias), conv(x)
    torch.testing.assert_close(found, expected)
    weights = [x, *conv.parameters()]
    pulled = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, weights, pulled), torch.autograd.grad(expected, weights, pulled)
    )
