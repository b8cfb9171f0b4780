"""Progressive distillation: in every round one step learns what two steps did before."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lfm_policy.distillation.methods.base import TrajectoryLoss, state_at


class ProgressiveLoss(TrajectoryLoss):
    """Halving (Salimans and Ho, "Progressive Distillation", arXiv:2202.00512), inside a group.

    With M trajectory points, the student takes M / 2 steps after the first round and one step
    after the last. Its steps start from states of the teacher's trajectories. The target of the
    first round is the teacher's own trajectory; in later rounds it is where the student of the
    round before goes in two steps (in p steps, where M has the odd prime factor p).
    """

    def _prepare(self) -> None:
        self._factors = prime_factors(self.options.trajectory_points)
        self.n_rounds = len(self._factors)
        self._round = 0
        # In a tuple: the student of the round before is not trained.
        self._before = (copy.deepcopy(self.network).requires_grad_(False).eval(),)

    def start_round(self, number: int) -> None:
        """Make the network as it is the teacher of the round."""
        self._round = number
        self._before[0].load_state_dict(self.network.state_dict())

    def kept_tensors(self) -> dict[str, Tensor]:
        """Return the weights of the round before."""
        return dict(self._before[0].state_dict())

    def forward(self, y: Tensor, path: Tensor, cond: Tensor | None) -> Tensor:
        """Return the mean square error of the student's velocity over its steps, a scalar."""
        points, factor = path.shape[1], self._factors[self._round]
        n_steps = points
        for done in self._factors[: self._round + 1]:
            n_steps //= done
        stride, size = points // n_steps, 1 / n_steps
        step = torch.randint(1, n_steps + 1, (len(y),), device=y.device)
        x, t = state_at(y, path, step * stride), step.to(y.dtype) / n_steps
        if self._round == 0:
            target = state_at(y, path, (step - 1) * stride)
        else:
            target = self._steps_before(x, t, factor, size / factor, cond)
        # The velocity of a step and not its end: all steps of a round weigh the same.
        return self.distance(self.network(x, t, cond) - (x - target) / size)

    @torch.no_grad()
    def _steps_before(
        self, x: Tensor, t: Tensor, n_steps: int, size: float, cond: Tensor | None
    ) -> Tensor:
        for k in range(n_steps):
            x = x - size * self._before[0](x, (t - k * size).clamp(min=0), cond)
        return x


def prime_factors(number: int) -> list[int]:
    """Return the prime factors of a number of at least 2, the smallest first."""
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors
