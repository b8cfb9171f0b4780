"""Where an action of the teacher's chunk stands in the chunk of a student of another history."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
