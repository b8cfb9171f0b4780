"""Conditional temporal U-Net of the Diffusion Policy family (Chi et al., arXiv:2303.04137)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.conditioning import ConditionEmbedding, Modulation, modulate, zero_init
from lfm_policy.networks.options import UNet1DConfig

NARROW = 192
"""Channels up to which a GPU computes convolutions over time as products of matrices."""


class UNet1D(VelocityNetwork):
    """Convolutions over time at halving resolutions, with skips; FiLM in every residual block.

    A horizon that the levels do not divide is padded with its last action, the way windows are
    padded at the end of an episode, and cropped again. Shapes and conventions are those of
    :class:`VelocityNetwork`.
    """

    def __init__(
        self, config: UNet1DConfig, chunk_shape: tuple[int, ...], cond_dim: int, n_times: int
    ) -> None:
        super().__init__(chunk_shape, cond_dim, n_times)
        self.horizon, action_dim = chunk_shape
        channels = list(config.channels)
        self.n_padding = -self.horizon % 2 ** (len(channels) - 1)

        # Levels from full resolution down to the lowest, which the middle stage shares.
        self.down = nn.ModuleList(
            _Stage(c_in, c, config)
            for c_in, c in zip([action_dim, *channels[:-1]], channels, strict=True)
        )
        self.shrink = nn.ModuleList(
            nn.Conv1d(c, c, kernel_size=3, stride=2, padding=1) for c in channels[:-1]
        )
        self.middle = _Stage(channels[-1], channels[-1], config)
        # And up again; a stage's input is the upsampled stream beside the skip of its level.
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(c_low, c, kernel_size=4, stride=2, padding=1)
            for c_low, c in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.up = nn.ModuleList(_Stage(2 * c, c, config) for c in channels[-2::-1])
        self.head = ConvNormAct(channels[0], channels[0], config.kernel_size, config.n_groups)
        self.proj_out = zero_init(nn.Conv1d(channels[0], action_dim, kernel_size=1))

        # (shift, scale) for each of a stage's two blocks, in the order of the forward pass.
        stage_channels = channels + channels[-1:] + channels[-2::-1]
        self.embedding = ConditionEmbedding(
            cond_dim, config.time_embed_dim, config.embed_dim, n_times
        )
        self.modulation = Modulation(
            config.embed_dim, [c for c in stage_channels for _ in range(4)]
        )

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the velocity, shape (batch, horizon, action_dim)."""
        self._check_inputs(x, cond)
        film = self.modulation(self.embedding(t, cond))
        films = iter([film[i : i + 4] for i in range(0, len(film), 4)])

        h = time_last(x, self.n_padding)
        skips = []
        for level, stage in enumerate(self.down):
            h = stage(h, next(films))
            if level < len(self.shrink):
                skips.append(h)
                h = self.shrink[level](h)
        h = self.middle(h, next(films))
        for grow, stage in zip(self.grow, self.up, strict=True):
            h = stage(torch.cat((grow(h), skips.pop()), dim=1), next(films))
        velocity: Tensor = self.proj_out(self.head(h))
        return rearrange(velocity[..., : self.horizon], "b d t -> b t d")


class _Stage(nn.Module):
    """Two residual blocks at one resolution, (batch, c_in, time) to (batch, c_out, time)."""

    def __init__(self, c_in: int, c_out: int, config: UNet1DConfig) -> None:
        super().__init__()
        self.first = _ResidualBlock(c_in, c_out, config)
        self.second = _ResidualBlock(c_out, c_out, config)

    def forward(self, h: Tensor, film: tuple[Tensor, ...]) -> Tensor:
        h = self.first(h, film[0], film[1])
        h = self.second(h, film[2], film[3])
        return h


class _ResidualBlock(nn.Module):
    """Two convolutions with FiLM between them: feature-wise h (1 + scale) + shift."""

    def __init__(self, c_in: int, c_out: int, config: UNet1DConfig) -> None:
        super().__init__()
        sizes = config.kernel_size, config.n_groups
        self.first = ConvNormAct(c_in, c_out, *sizes)
        self.second = ConvNormAct(c_out, c_out, *sizes)
        self.skip = nn.Conv1d(c_in, c_out, kernel_size=1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        h = modulate(self.first(x), shift.unsqueeze(-1), scale.unsqueeze(-1))
        out: Tensor = self.second(h) + self.skip(x)
        return out


def time_last(x: Tensor, n_padding: int) -> Tensor:
    """Return chunks (batch, time, dim) as (batch, dim, time), the last action repeated behind."""
    h = rearrange(x, "b t d -> b d t")
    if not n_padding:
        return h
    return torch.cat((h, h[..., -1:].expand(-1, -1, n_padding)), dim=-1)


class _Conv(nn.Conv1d):
    """A convolution that keeps the length; on a GPU one product of matrices, if it is narrow.

    Of so few channels cuDNN's kernels, forward and backward, take 1.5 times as long (a step of
    ``pusht/lfm3_unet`` on an H100: 4.2 ms, 2.8 ms as products).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, time) to (batch, c_out, time)."""
        if x.is_cuda and self.in_channels <= NARROW:
            return conv_as_product(x, self.weight, self.bias)
        return super().forward(x)


def conv_as_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution over time that keeps the length, of (batch, c_in, time).

    Args:
        x: what is convolved.
        weight: (c_out, c_in, size), of an odd size.
        bias: (c_out,), or None.
    """
    size = weight.shape[2]
    windows = functional.pad(x, (size // 2, size // 2)).unfold(2, size, 1)
    out = functional.linear(rearrange(windows, "b c t k -> b t (c k)"), weight.flatten(1), bias)
    return rearrange(out, "b t c -> b c t")


class ConvNormAct(nn.Module):
    """Convolution of an odd size, group norm, Mish; keeps the length."""

    def __init__(self, c_in: int, c_out: int, size: int, n_groups: int) -> None:
        super().__init__()
        self.conv = _Conv(c_in, c_out, size, padding=size // 2)
        self.norm = nn.GroupNorm(n_groups, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, time) to (batch, c_out, time)."""
        return functional.mish(self.norm(self.conv(x)))
