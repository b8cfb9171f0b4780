"""How far from the data states of a teacher may lie, so that students learn what it would do.

A teacher that clips its actions may answer an observation unlike all that it knows with a chunk far
outside of the data, and nobody notices: what is executed is clipped. A student that has to come
near such chunks in squares learns little else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from lfm_policy.data.replay_buffer import ACTION_KEY
from lfm_policy.flow import OUSchedule
from lfm_policy.policy.checkpoint import CheckpointHeader, read_normalizer
from lfm_policy.policy.model import ou_schedule

NOISES = 4.0
"""Standard deviations of the noise that a state may lie beyond all data: one number in 16,000
does."""


@dataclass(frozen=True)
class Reach:
    """Where diffused data are.

    Attributes:
        low: smallest normalised action of the demonstrations, (action_dim,).
        high: the largest.
        schedule: of the teacher's blocks.
    """

    low: Tensor
    high: Tensor
    schedule: OUSchedule

    @classmethod
    def of(cls, teacher: CheckpointHeader) -> Reach | None:
        """Return that of a teacher's demonstrations; None if it does not clip its actions."""
        if not teacher.config.policy.clip_actions:
            return None
        normalizer = read_normalizer(teacher)
        limits = normalizer[ACTION_KEY]
        low, high = (
            normalizer.normalize(ACTION_KEY, limits.raw(part)).float() for part in ("min", "max")
        )
        schedule = ou_schedule(teacher.config.flow)
        return cls(torch.minimum(low, high), torch.maximum(low, high), schedule)

    def bounded(self, x: Tensor, position: Fraction) -> Tensor:
        """Return states (..., action_dim), each number within what diffused data reach.

        Args:
            x: states of the teacher.
            position: where they are, in blocks counted from the data: 0 is the data themselves,
                and N the noise, which has no bounds.
        """
        first, last = math.floor(position), math.ceil(position)
        if last == self.schedule.n_blocks:
            return x
        lows, highs = [], []
        for n in {first, last}:  # inside a block states are between those of its ends
            step = self.schedule.marginal(n)
            lows.append(step.decay * self.low - NOISES * step.noise_std)
            highs.append(step.decay * self.high + NOISES * step.noise_std)
        low, high = torch.stack(lows).amin(0).to(x), torch.stack(highs).amax(0).to(x)
        return torch.clamp(x, low, high)
