"""Groups of consecutive teacher blocks, or parts of one block, one for each student block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from lfm_policy.config import DistillConfig, ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.flow import FlowChain, SolverSpec
from lfm_policy.policy.pipeline import plan_sampler


@dataclass(frozen=True)
class TeacherGroup:
    """The part of the teacher that one student block replaces.

    Attributes:
        chain: all blocks of the teacher.
        start: where the group begins, at the data side, counted in blocks: n - 1 is t = 0 of
            block n, and n is its t = 1.
        end: where it ends, at the noise side.
        solver: how a whole block is integrated, or each of them, block 1 first; a part of a block
            takes its share of the steps.
    """

    chain: FlowChain
    start: Fraction
    end: Fraction
    solver: SolverSpec | Sequence[SolverSpec]

    @property
    def first(self) -> int:
        """Number of the block at the data side."""
        return math.floor(self.start) + 1

    @property
    def last(self) -> int:
        """Number of the block at the noise side."""
        return math.ceil(self.end)

    @property
    def whole_blocks(self) -> bool:
        """Whether the group is made of whole blocks."""
        return self.start.denominator == self.end.denominator == 1

    @torch.no_grad()
    def velocity(self, x: Tensor, time: Tensor, cond: Tensor | None) -> Tensor:
        """Return the teacher's velocity at states x (B, *chunk_shape), for the group's time.

        Args:
            x: states at the times ``time``.
            time: (B,), from 0 at the data side to 1 at the noise side of the group, in equal shares
                for all its blocks, as in `trajectory`. Between two blocks the velocity may jump:
                the one nearer the noise counts.
            cond: (B, cond_dim) encoded observations, or None.

        Raises:
            InputError: the networks of the teacher stand for no velocity.
        """
        length = float(self.end - self.start)
        position = float(self.start) + length * time
        velocity = torch.empty_like(x)
        for n in range(self.first, self.last + 1):
            inside = position.floor().clamp(self.first - 1, self.last - 1) == n - 1
            t = (position[inside] - (n - 1)).clamp(0, 1)
            seen = None if cond is None else cond[inside]
            if len(t):
                found = self.chain.block(n).velocity(x[inside], t, seen)
                velocity[inside] = length * found.to(x)
        return velocity

    @torch.no_grad()
    def sample(self, y: Tensor, cond: Tensor | None) -> Tensor:
        """Return the data-side states (B, *chunk_shape) of noise-side states ``y``."""
        return self.trajectory(y, cond, 1)[:, 0]

    @torch.no_grad()
    def trajectory(self, y: Tensor, cond: Tensor | None, points: int) -> Tensor:
        """Return states on the way from ``y`` to the data side, (B, points, *chunk_shape).

        Entry i is the state at the time i / points of the group, whose data side is 0 and whose
        noise side, ``y`` itself, is 1: entry 0 is the sample.

        Raises:
            InputError: the steps of the teacher cannot be divided by ``points``.
        """
        states, solvers = [y], self.chain.solver_per_block(self.solver)
        for n in range(self.last, self.first - 1, -1):
            high = min(self.end - (n - 1), Fraction(1))
            low = max(self.start - (n - 1), Fraction(0))
            solver = solvers[n - 1]
            if high - low < 1:
                solver = replace(solver, n_steps=math.ceil(solver.n_steps * (high - low)), times=())
            result = self.chain.block(n).run(
                states[-1],
                cond,
                t_start=float(high),
                t_end=float(low),
                solver=solver,
                return_path=points > 1,
            )
            states += [result.x] if result.path is None else list(result.path[1:])
        steps_in_all = len(states) - 1
        if points > 1 and steps_in_all % points:
            raise InputError(
                f"distill.teacher_steps is {solver.n_steps}, which makes {steps_in_all} steps in a "
                f"student's group; expected a multiple of distill.trajectory_points = {points}"
            )
        stride = steps_in_all // points if points > 1 else steps_in_all
        return torch.stack(states[::-1][: points * stride : stride], dim=1)


def group_edges(
    n_teacher_blocks: int, n_students: int, sizes: Sequence[int] = ()
) -> list[Fraction]:
    """Return where groups begin and end, n_students + 1 numbers of blocks counted from the data.

    Args:
        n_teacher_blocks: N.
        n_students: N'.
        sizes: blocks of each group, the one at the data side first; empty: all groups alike, each
            of N / N' blocks or, where N' is a multiple of N, of a part of one.

    Raises:
        InputError: the sizes do not make N together, or neither number divides the other.
    """
    if sizes:
        if len(sizes) != n_students or min(sizes) < 1 or sum(sizes) != n_teacher_blocks:
            raise InputError(
                f"groups are {list(sizes)}, expected {n_students} whole number(s) of at least 1 "
                f"that add up to the teacher's {n_teacher_blocks} block(s)"
            )
        return [Fraction(edge) for edge in accumulate(sizes, initial=0)]
    if n_students < 1 or (n_teacher_blocks % n_students and n_students % n_teacher_blocks):
        divisors = [k for k in range(1, n_teacher_blocks + 1) if n_teacher_blocks % k == 0]
        raise InputError(
            f"nfe is {n_students}, expected a divisor of the teacher's {n_teacher_blocks} "
            f"block(s): {', '.join(map(str, divisors))}; or a multiple of {n_teacher_blocks}, "
            "where every block is cut into equal parts; or say with --groups how many blocks each "
            "student block replaces"
        )
    return [Fraction(n_teacher_blocks * j, n_students) for j in range(n_students + 1)]


def teacher_groups(
    chain: FlowChain, edges: Sequence[Fraction], solver: SolverSpec | Sequence[SolverSpec]
) -> list[TeacherGroup]:
    """Return the group of each student block between `group_edges`, index 0 = data side."""
    return [TeacherGroup(chain, start, end, solver) for start, end in pairwise(edges)]


def teacher_solver(
    options: DistillConfig, teacher: ExperimentConfig
) -> SolverSpec | Sequence[SolverSpec]:
    """Return how the teacher's blocks are integrated; without ``teacher_steps``, as it samples."""
    sampler = teacher.sampler
    if options.teacher_steps:
        return SolverSpec(
            options.teacher_solver, options.teacher_steps, rtol=sampler.rtol, atol=sampler.atol
        )
    method, n_blocks = teacher.flow.method.create(), teacher.flow.n_blocks
    return plan_sampler(sampler, n_blocks, method=method)


def group_step_sizes(step_sizes: Sequence[float], edges: Sequence[Fraction]) -> list[float]:
    """Return the OU times of all groups but the last, the student's step sizes.

    A part of a block gets its share of the block's OU time. In the free block, whose OU time is
    infinite, a boundary at the time t gets the time at which the OU process has the same ratio of
    data to noise as (1 - t) x + t z.

    Args:
        step_sizes: of the teacher's blocks but the free one.
        edges: see `group_edges`.
    """

    def ou_time(position: Fraction) -> float:
        whole, part = math.floor(position), float(position - math.floor(position))
        time = math.fsum(step_sizes[:whole])
        if whole < len(step_sizes):
            return time + part * step_sizes[whole]
        return time + 0.5 * math.log1p((part / (1 - part)) ** 2)

    return [later - earlier for earlier, later in pairwise(map(ou_time, edges[:-1]))]
