"""Groups of consecutive teacher blocks, one for each student block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow import FlowChain, SolverSpec
from lfm_policy.policy.model import PolicyModel


@dataclass(frozen=True)
class TeacherGroup:
    """The teacher's blocks ``first``..``last`` (1 at the data) and how they are integrated."""

    chain: FlowChain
    first: int
    last: int
    solver: SolverSpec

    @torch.no_grad()
    def sample(self, y: Tensor, cond: Tensor | None) -> Tensor:
        """Return the data-side states (B, *chunk_shape) of noise-side states ``y``."""
        result = self.chain.sample(y, cond, solver=self.solver, first=self.first, last=self.last)
        return result.x


def check_groups(n_teacher_blocks: int, n_students: int) -> int:
    """Return how many teacher blocks each student replaces.

    Raises:
        InputError: the number of students does not divide the number of blocks.
    """
    if n_students < 1 or n_teacher_blocks % n_students:
        divisors = [k for k in range(1, n_teacher_blocks + 1) if n_teacher_blocks % k == 0]
        raise InputError(
            f"nfe is {n_students}, expected a divisor of the teacher's {n_teacher_blocks} "
            f"block(s): {', '.join(map(str, divisors))}"
        )
    return n_teacher_blocks // n_students


def teacher_groups(model: PolicyModel, n_students: int, solver: SolverSpec) -> list[TeacherGroup]:
    """Return the group of each student block, index 0 = student 1 (data side)."""
    size = check_groups(model.n_blocks, n_students)
    chain = model.chain()
    return [
        TeacherGroup(chain, first=j * size + 1, last=(j + 1) * size, solver=solver)
        for j in range(n_students)
    ]
