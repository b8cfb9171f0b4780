"""The conditional U-Net of Diffusion Policy (Chi et al., arXiv:2303.04137), as others have it.

Policies of Diffusion Policy, LeRobot and robomimic are imported into it. `UNet1D` is like it, and
better where nothing is to be imported.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.conditioning import StepFilm, zero_init
from lfm_policy.networks.options import ConditionalUNet1DConfig
from lfm_policy.networks.unet1d import ConvNormAct, time_last


class ConditionalUNet1D(VelocityNetwork):
    """Residual blocks with FiLM (scale x + shift) by integer time and observation.

    The skip of the first level is not used, as in the original. A horizon that the levels do not
    divide is padded with its last action and cropped again. Shapes and conventions are those of
    :class:`VelocityNetwork`.
    """

    def __init__(
        self,
        config: ConditionalUNet1DConfig,
        chunk_shape: tuple[int, ...],
        cond_dim: int,
        n_times: int,
    ) -> None:
        super().__init__(chunk_shape, cond_dim, n_times)
        self.horizon, action_dim = chunk_shape
        channels = list(config.channels)
        self.n_padding = -self.horizon % 2 ** (len(channels) - 1)
        self.down = nn.ModuleList(
            _Stage(c_in, c, config)
            for c_in, c in zip([action_dim, *channels[:-1]], channels, strict=True)
        )
        self.shrink = nn.ModuleList(
            nn.Conv1d(c, c, kernel_size=3, stride=2, padding=1) for c in channels[:-1]
        )
        self.middle = _Stage(channels[-1], channels[-1], config)
        # A stage's input is the stream beside the skip of its level; only then it grows.
        self.up = nn.ModuleList(
            _Stage(2 * c, c_out, config)
            for c, c_out in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(c, c, kernel_size=4, stride=2, padding=1) for c in channels[-2::-1]
        )
        self.head = ConvNormAct(channels[0], channels[0], config.kernel_size, config.head_groups)
        self.proj_out = zero_init(nn.Conv1d(channels[0], action_dim, kernel_size=1))

        # (scale, shift) for each of a stage's two blocks, in the order of the forward pass.
        stage_channels = channels + channels[-1:] + channels[-2::-1]
        each = 2 if config.film_scale else 1
        self.film_sizes = [each * c for c in stage_channels for _ in range(2)]
        size = sum(self.film_sizes)
        self.film_time = StepFilm(config.step_embed_dim, size, config.train_steps, n_times)
        self.film_cond = nn.Linear(cond_dim, size, bias=False) if cond_dim else None

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the prediction, shape (batch, horizon, action_dim)."""
        self._check_inputs(x, cond)
        film = self.film_time(t)
        if self.film_cond is not None and cond is not None:
            film = film + self.film_cond(functional.mish(cond))
        films = iter(torch.split(film.unsqueeze(-1), self.film_sizes, dim=1))

        h = time_last(x, self.n_padding)
        skips = []
        for level, stage in enumerate(self.down):
            h = stage(h, next(films), next(films))
            skips.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = self.middle(h, next(films), next(films))
        for stage, grow in zip(self.up, self.grow, strict=True):
            h = grow(stage(torch.cat((h, skips.pop()), dim=1), next(films), next(films)))
        prediction: Tensor = self.proj_out(self.head(h))
        return rearrange(prediction[..., : self.horizon], "b d t -> b t d")


class _Stage(nn.Module):
    """Two residual blocks at one resolution, (batch, c_in, time) to (batch, c_out, time)."""

    def __init__(self, c_in: int, c_out: int, config: ConditionalUNet1DConfig) -> None:
        super().__init__()
        self.first = _ResidualBlock(c_in, c_out, config)
        self.second = _ResidualBlock(c_out, c_out, config)

    def forward(self, h: Tensor, first: Tensor, second: Tensor) -> Tensor:
        h = self.first(h, first)
        h = self.second(h, second)
        return h


class _ResidualBlock(nn.Module):
    """Two convolutions with FiLM between them; ``film`` is (batch, 2 c_out or c_out, 1)."""

    def __init__(self, c_in: int, c_out: int, config: ConditionalUNet1DConfig) -> None:
        super().__init__()
        sizes = config.kernel_size, config.n_groups
        self.first = ConvNormAct(c_in, c_out, *sizes)
        self.second = ConvNormAct(c_out, c_out, *sizes)
        self.skip = nn.Conv1d(c_in, c_out, kernel_size=1) if c_in != c_out else nn.Identity()
        self.scales = config.film_scale

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        h = self.first(x)
        if self.scales:
            scale, shift = film.chunk(2, dim=1)
            h = torch.addcmul(shift, scale, h)
        else:
            h = h + film
        out: Tensor = self.second(h) + self.skip(x)
        return out
