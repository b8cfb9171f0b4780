"""Consistency distillation: the flow map to the data side, the same from everywhere on a path."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.distillation.methods.base import TrajectoryLoss, state_at


class ConsistencyLoss(TrajectoryLoss):
    """Song et al., "Consistency Models", arXiv:2303.01469, on the teacher's own trajectories.

    The student is the flow map f(x, t) = x - t u(x, t, O) from the time t of its group to the
    data side, and f(x, 0) = x. Two neighbours on one trajectory must end in the same place:
    E || f(x_i, i / M) - sg f(x_{i-1}, (i-1) / M) ||^2, where sg lets no gradient through.
    """

    def forward(self, y: Tensor, path: Tensor, cond: Tensor | None) -> Tensor:
        """Return the mean square difference between neighbours, a scalar."""
        points = path.shape[1]
        index = torch.randint(1, points + 1, (len(y),), device=y.device)
        t, t_before = index.to(y.dtype) / points, (index - 1).to(y.dtype) / points
        with torch.no_grad():
            target = self.flow_map(state_at(y, path, index - 1), t_before, cond)
        return self.distance(self.flow_map(state_at(y, path, index), t, cond) - target)
