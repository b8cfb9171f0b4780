"""Small transformer over action tokens with adaptive layer norm (the "DiT" of action chunks)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.conditioning import ConditionEmbedding, Modulation, modulate, zero_init
from lfm_policy.networks.options import TransformerConfig


class Transformer(VelocityNetwork):
    """Every action sees every other; time and observation modulate each layer.

    Adaptive layer norm with gates starting closed as in Peebles and Xie, arXiv:2212.09748.
    Shapes and conventions are those of :class:`VelocityNetwork`.
    """

    def __init__(
        self, config: TransformerConfig, chunk_shape: tuple[int, ...], cond_dim: int, n_times: int
    ) -> None:
        super().__init__(chunk_shape, cond_dim, n_times)
        horizon, action_dim = chunk_shape
        width = config.width
        self.embedding = ConditionEmbedding(cond_dim, config.time_embed_dim, width, n_times)
        # (shift, scale, gate) for the attention and for the MLP of each layer, (shift, scale) for
        # the last norm.
        self.modulation = Modulation(width, [width] * (6 * config.n_layers + 2))
        self.proj_in = nn.Linear(action_dim, width)
        self.positions = nn.Parameter(torch.randn(horizon, width) * 0.02)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))
        self.proj_out = zero_init(nn.Linear(width, action_dim))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the velocity, shape (batch, horizon, action_dim)."""
        self._check_inputs(x, cond)
        # The same modulation for every token: (batch, 1, width).
        modulation = self.modulation(self.embedding(t, cond).unsqueeze(1))
        h = self.proj_in(x) + self.positions
        for i, layer in enumerate(self.layers):
            h = layer(h, modulation[6 * i : 6 * i + 6])
        h = modulate(functional.layer_norm(h, h.shape[-1:]), *modulation[-2:])
        velocity: Tensor = self.proj_out(h)
        return velocity


class _Layer(nn.Module):
    """Attention over the chunk, then an MLP per token; (batch, horizon, width) in and out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.n_heads = config.n_heads
        self.scale = (width // config.n_heads) ** -0.5
        self.dropout = config.dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.up = nn.Linear(width, width * config.expansion)
        self.down = nn.Linear(width * config.expansion, width)

    def forward(self, h: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
        h = torch.addcmul(h, gate_a, self._attend(modulate(_normalise(h), shift_a, scale_a)))
        hidden = functional.gelu(
            self.up(modulate(_normalise(h), shift_m, scale_m)), approximate="tanh"
        )
        hidden = functional.dropout(hidden, self.dropout, self.training)
        return torch.addcmul(h, gate_m, self.down(hidden))

    def _attend(self, h: Tensor) -> Tensor:
        query, key, value = rearrange(
            self.qkv(h), "b t (three heads d) -> three b heads t d", three=3, heads=self.n_heads
        ).unbind(0)
        # Written out: torch's fused attention has neither forward-mode nor second derivatives nor
        # vmap, which likelihoods and flow-map distillation need, and chunks are too short for it
        # to save more than a few percent.
        scores = (query * self.scale) @ key.transpose(-1, -2)
        weights = functional.dropout(scores.softmax(-1), self.dropout, self.training)
        mixed = weights @ value  # (batch, n_heads, horizon, head_dim)
        out: Tensor = self.attention_out(rearrange(mixed, "b heads t d -> b t (heads d)"))
        return out


def _normalise(h: Tensor) -> Tensor:
    return functional.layer_norm(h, h.shape[-1:])
