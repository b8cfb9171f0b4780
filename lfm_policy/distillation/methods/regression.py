"""Algorithm A.1: regression of the student's one step on where the teacher ends."""

from __future__ import annotations

from torch import Tensor

from lfm_policy.distillation.methods.base import DistillLoss


class RegressionLoss(DistillLoss):
    """E || y - u(y, 1, O) - x ||^2 over the teacher's pairs (y, x)."""

    same_work = True

    def forward(self, y: Tensor, path: Tensor, cond: Tensor | None) -> Tensor:
        """Return the error of the student's step, see `distance`, a scalar."""
        return self.distance(self.one_step(y, cond) - path[:, 0])
