"""The transformer over action tokens."""

from __future__ import annotations

import torch

from lfm_policy.networks.options import TransformerConfig
from lfm_policy.networks.transformer import Transformer


def make() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(width=8, n_layers=1, n_heads=2, expansion=2, time_embed_dim=8)
    network = config.create((5, 2), 0)
    assert isinstance(network, Transformer)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


def test_the_order_of_actions_enters_through_positions_only() -> None:
    network = make()
    x, t, order = torch.randn(2, 5, 2), torch.rand(2), torch.tensor([3, 0, 4, 1, 2])
    assert not torch.allclose(network(x[:, order], t), network(x, t)[:, order], atol=1e-4)
    torch.nn.init.zeros_(network.positions)
    torch.testing.assert_close(network(x[:, order], t), network(x, t)[:, order])


def test_attention_is_softmax_of_scaled_products() -> None:
    network = make()
    layer = network.layers[0]
    h = torch.randn(2, 5, 8)
    query, key, value = layer.qkv(h).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(query @ key.transpose(-1, -2) / 2.0, dim=-1)
    expected = layer.attention_out((weights @ value).transpose(1, 2).reshape(2, 5, 8))
    torch.testing.assert_close(layer._attend(h), expected)
