"""Blocks that are exact: velocities in closed form for data of several Gaussian modes.

Of pairs from mode k the point I_t is Gaussian, and the best velocity is that of a Gaussian
(`lfm_policy.flow.GaussianBlockVelocity`). Of all pairs it is the mean of these over the modes, each
weighted with how likely I_t is its own. The OU process keeps the number of modes, so that every
block of a chain has the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lfm_policy.flow import FlowBlock, FlowChain, GaussianBlockVelocity, OUSchedule, OUStep


@dataclass(frozen=True)
class Mixture:
    """A distribution of K Gaussian modes, all with the covariance std^2 I.

    Attributes:
        weights: (K,), adding up to 1.
        means: (K, *shape).
        std: of every number of every mode.
    """

    weights: Tensor
    means: Tensor
    std: float

    def sample(self, n: int) -> Tensor:
        """Return n draws, (n, *shape)."""
        means = self.means[torch.multinomial(self.weights, n, replacement=True)]
        return means + self.std * torch.randn_like(means)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log densities (B,) of x (B, *shape)."""
        return torch.logsumexp(self.log_joint(x), dim=1)

    def log_joint(self, x: Tensor) -> Tensor:
        """Return the log density of x together with every mode, (B, K)."""
        offset = (x[:, None] - self.means).flatten(2)
        normal = torch.distributions.Normal(0.0, self.std)
        return self.weights.log() + normal.log_prob(offset).sum(2)

    def after(self, step: OUStep) -> Mixture:
        """Return what a step of the OU process makes of it."""
        std = (step.decay**2 * self.std**2 + step.noise_std**2) ** 0.5
        return Mixture(self.weights, step.decay * self.means, std)

    def between(self, step: OUStep, t: float) -> Mixture:
        """Return the distribution of I_t = (1 - t) x_l + t x_r for x_l from this one."""
        scale = 1 - t + t * step.decay
        std = (scale**2 * self.std**2 + t**2 * step.noise_std**2) ** 0.5
        return Mixture(self.weights, scale * self.means, std)


class MixtureVelocity:
    """The best velocity of a block with the dependent coupling and the linear path."""

    def __init__(self, data: Mixture, step: OUStep) -> None:
        """Build it for data-side ends from ``data``."""
        self._data, self._step = data, step
        size = data.means[0].numel()
        covariance = data.std**2 * torch.eye(size, dtype=data.means.dtype)
        self._modes = [
            GaussianBlockVelocity(mean.flatten(), covariance, step) for mean in data.means
        ]

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return v(x, t), shape of x; all times of a batch are the same."""
        between = self._data.between(self._step, float(t[0]))
        shares = torch.softmax(between.log_joint(x), dim=1)
        velocities = torch.stack([mode(x, t) for mode in self._modes], dim=1)
        return (shares.view(*shares.shape, *(1,) * (x.ndim - 1)) * velocities).sum(1)


def exact_chain(data: Mixture, step_sizes: Sequence[float] = ()) -> FlowChain:
    """Return a chain of exact blocks with these OU times, and the free block."""
    schedule, blocks = OUSchedule(tuple(step_sizes)), []
    for n in range(1, schedule.n_blocks + 1):
        step = schedule.step(n)
        blocks.append(FlowBlock(MixtureVelocity(data, step), step))
        data = data.after(step)
    return FlowChain(blocks)
