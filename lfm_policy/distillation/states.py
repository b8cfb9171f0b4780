"""What becomes of a teacher's states before a student learns them.

They are moved to the student's chunks, which may begin at another time, and kept within reach of
the data: a teacher that clips its actions may answer an observation unlike all that it knows with a
chunk far outside of the data, and nobody notices, because what is executed is clipped. A student
that has to come near such chunks in squares learns little else.
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
class ChunkShift:
    """Moves chunks between two policies that look back differently far.

    A chunk begins with the first observation of the history, so what is the teacher's action k is
    the student's action k - ``steps``. What falls off one end comes in at the other: a state of one
    is a state of the other with the same numbers, of noise too, and nothing of it is lost. Only of
    the data no action comes in that belongs to another time: there, the nearest one is held.

    Attributes:
        steps: ``n_obs_steps`` of the teacher less that of the student.
    """

    steps: int

    def state(self, x: Tensor) -> Tensor:
        """Return the student's state for one of the teacher, (..., horizon, action_dim)."""
        return x.roll(-self.steps, dims=-2) if self.steps else x

    def back(self, x: Tensor) -> Tensor:
        """Return the teacher's state for one of the student; undoes `state`."""
        return x.roll(self.steps, dims=-2) if self.steps else x

    def chunk(self, x: Tensor) -> Tensor:
        """Return the student's chunk for one of the teacher, (..., horizon, action_dim)."""
        if not self.steps:
            return x
        places = torch.arange(x.shape[-2], device=x.device) + self.steps
        return x.index_select(-2, places.clamp(0, x.shape[-2] - 1))

    def path(self, path: Tensor, *, to_data: bool) -> Tensor:
        """Return the student's ways for those of the teacher, (rows, points, horizon, action_dim).

        Args:
            path: entry 0 is at the data side of its group.
            to_data: whether that is the data themselves.
        """
        if not self.steps or not to_data:
            return self.state(path)
        return torch.cat([self.chunk(path[:, :1]), self.state(path[:, 1:])], dim=1)


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
