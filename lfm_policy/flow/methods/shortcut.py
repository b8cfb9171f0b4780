"""Shortcut models: a step is what two steps of half its length make up."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.flow.methods.mean_velocity import MeanVelocityMethod, Steps, two_halves
from lfm_policy.flow.methods.options import ShortcutConfig
from lfm_policy.flow.solvers.velocity import Network


class ShortcutMethod(MeanVelocityMethod):
    """Frans et al., "One Step Diffusion via Shortcut Models", arXiv:2410.12557, equation 4.

    Of the lengths 2 d = 1, 1/2, 1/4, ... each is as frequent as the others, and

        u(x, t, t - 2 d) -> 1/2 [u(x, t, t - d) + u(x', t - d, t - 2 d)],  x' = x - d u(x, t, t - d)

    with the EMA of the weights and without gradient. The shortest d follow the velocity u(x, t, t).
    Steps begin at multiples of their length, so that they end inside the block; t = 1, where
    sampling begins, is one of these.
    """

    asks_average = True
    config: ShortcutConfig

    def times(self, t: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return times on the grid of a random step length, and the ones before them."""
        n_lengths = self.config.finest_steps.bit_length() - 1
        halvings = torch.randint(n_lengths, t.shape, generator=generator, device=t.device)
        steps = 2.0 ** halvings.to(t.dtype)
        share = torch.rand(t.shape, generator=generator, device=t.device, dtype=t.dtype)
        number = torch.floor(steps * share)
        return (number + 1) / steps, number / steps

    def target(self, network: Network, steps: Steps, average: Network) -> Tensor:
        """Return the mean velocity of two steps of half the length."""
        shortest = (steps.t - steps.s) / 2 <= 1 / self.config.finest_steps
        return two_halves(average, steps, shortest)
