"""Residual MLP with adaptive layer norm: the network for a CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.conditioning import ConditionEmbedding, Modulation, modulate, zero_init
from lfm_policy.networks.options import MLPConfig


class MLP(VelocityNetwork):
    """The chunk as one flat vector through residual layers h += gate * f(adaptive norm(h)).

    Shapes and conventions are those of :class:`VelocityNetwork`.
    """

    def __init__(
        self, config: MLPConfig, chunk_shape: tuple[int, ...], cond_dim: int, n_times: int
    ) -> None:
        super().__init__(chunk_shape, cond_dim, n_times)
        width, size = config.width, math.prod(chunk_shape)
        self.embedding = ConditionEmbedding(cond_dim, config.time_embed_dim, width, n_times)
        # (shift, scale, gate) for each layer, (shift, scale) for the last norm.
        self.modulation = Modulation(width, [width] * (3 * config.n_layers + 2))
        self.proj_in = nn.Linear(size, width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))
        self.proj_out = zero_init(nn.Linear(width, size))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the velocity, shape of x."""
        self._check_inputs(x, cond)
        modulation = self.modulation(self.embedding(t, cond))
        h = self.proj_in(x.flatten(1))
        for i, layer in enumerate(self.layers):
            h = layer(h, *modulation[3 * i : 3 * i + 3])
        h = modulate(functional.layer_norm(h, h.shape[-1:]), *modulation[-2:])
        velocity: Tensor = self.proj_out(h)
        return velocity.view_as(x)


class _Layer(nn.Module):
    """h + gate * W2 silu(W1 modulate(norm(h))); all arguments and the result (batch, width)."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(config.width, config.width * config.expansion)
        self.down = nn.Linear(config.width * config.expansion, config.width)

    def forward(self, h: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        normed = modulate(functional.layer_norm(h, h.shape[-1:]), shift, scale)
        hidden = functional.silu(self.up(normed))
        if self.dropout:
            hidden = functional.dropout(hidden, self.dropout, self.training)
        return torch.addcmul(h, gate, self.down(hidden))
