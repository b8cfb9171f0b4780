"""Rectified flow: the straight way from a state to where the teacher takes it."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.distillation.methods.base import DistillLoss


class RectifiedLoss(DistillLoss):
    """E || v(I_t, t, O) - (y - x) ||^2 over the teacher's pairs (y, x), I_t = (1 - t) x + t y.

    Times t are uniform. Liu et al., "Flow Straight and Fast", arXiv:2209.03003: flow matching whose
    coupling is the teacher's own. What it finds carries y to the distribution of x as the teacher
    does, on ways that are straighter. So the student is a velocity at all times, and can be sampled
    in any number of steps. At t = 1, from where its one step starts, the pairs (y, x) are all that
    there is to know, and it is the regression of Algorithm A.1.
    """

    one_evaluation = False
    same_work = True

    def forward(self, y: Tensor, path: Tensor, cond: Tensor | None) -> Tensor:
        """Return the error of the student's velocity, see `distance`, a scalar."""
        x = path[:, 0]
        t = torch.rand(len(y), device=y.device, dtype=y.dtype)
        between = torch.lerp(x, y, t[:, None, None])
        return self.distance(self.network(between, t, cond) - (y - x))
