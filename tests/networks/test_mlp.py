"""The residual MLP."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lfm_policy.networks.mlp import MLP
from lfm_policy.networks.options import MLPConfig


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_chunks_of_any_shape(sizes: list[int]) -> None:
    shape = tuple(sizes)
    network = MLPConfig(width=8, time_embed_dim=4).create(shape, 0)
    torch.nn.init.normal_(network.get_parameter("proj_out.weight"))
    assert network(torch.randn(2, *shape), torch.rand(2)).shape == (2, *shape)


def test_it_computes_what_its_docstring_says() -> None:
    torch.manual_seed(0)
    network = MLPConfig(width=8, n_layers=2, expansion=3, time_embed_dim=4).create((3, 2), 5)
    assert isinstance(network, MLP)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, t, cond = torch.randn(4, 3, 2), torch.rand(4), torch.randn(4, 5)

    embedding = torch.cat([network.embedding.time(t), cond], 1)
    embedding = functional.silu(network.embedding.hidden(embedding))
    embedding = functional.silu(network.embedding.out(embedding))
    pieces = network.modulation.linear(embedding).reshape(4, 8, 8).unbind(1)
    h = network.proj_in(x.reshape(4, 6))
    for i, layer in enumerate(network.layers):
        shift, scale, gate = pieces[3 * i : 3 * i + 3]
        normed = functional.layer_norm(h, (8,)) * (1 + scale) + shift
        h = h + gate * layer.down(functional.silu(layer.up(normed)))
    h = functional.layer_norm(h, (8,)) * (1 + pieces[7]) + pieces[6]
    expected = network.proj_out(h).reshape(4, 3, 2)

    torch.testing.assert_close(network(x, t, cond), expected)
