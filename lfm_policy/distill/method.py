"""What every distillation method is: a loss on pairs of teacher states."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from lfm_policy.distill.group import TeacherGroup


class DistillLoss(nn.Module):
    """The loss of one student block.

    The student's one step maps a state y at the noise side of its group to
    x = y - u(y, t = 1, O), which is one Euler step from t = 1 to 0: u is the mean velocity of the
    group.
    """

    def __init__(self, network: nn.Module, group: TeacherGroup) -> None:
        super().__init__()
        self.network = network
        # Not a submodule: the teacher is neither trained nor saved with the student.
        self._group = (group,)

    @property
    def group(self) -> TeacherGroup:
        """The teacher's blocks that the student replaces."""
        return self._group[0]

    @abstractmethod
    def forward(self, y: Tensor, x: Tensor, cond: Tensor | None) -> Tensor:
        """Return the loss, a scalar.

        Args:
            y: (B, horizon, action_dim), states at the noise side of the group.
            x: the same shape, where the teacher takes them at the data side.
            cond: (B, cond_dim) encoded observations, or None.
        """
