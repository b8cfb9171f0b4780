"""The parts of a teacher that students replace, and the teacher's trajectories through them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lfm_policy import InputError
from lfm_policy.distillation.group import (
    TeacherGroup,
    group_edges,
    group_step_sizes,
    teacher_groups,
)
from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    OUSchedule,
    OUStep,
    SolverSpec,
)

pytestmark = pytest.mark.slow

MEAN, COV = torch.tensor([1.0, -0.5]), torch.tensor([[0.5, 0.1], [0.1, 0.3]])


def gaussian_chain(n_blocks: int) -> FlowChain:
    """Return the exact blocks for Gaussian data."""
    schedule = OUSchedule(tuple(0.1 * n for n in range(1, n_blocks)))
    blocks, mean, cov = [], MEAN.double(), COV.double()
    for n in range(1, n_blocks + 1):
        step = schedule.step(n)
        blocks.append(FlowBlock(GaussianBlockVelocity(mean, cov, step), step))
        mean = step.decay * mean
        cov = step.decay**2 * cov + step.noise_std**2 * torch.eye(2, dtype=torch.float64)
    return FlowChain(blocks)


def groups(chain: FlowChain, n_students: int, solver: SolverSpec) -> list[TeacherGroup]:
    return teacher_groups(chain, group_edges(chain.n_blocks, n_students), solver)


@pytest.mark.parametrize(
    ("blocks", "students", "size"),
    [(4, 4, 1), (4, 2, 2), (8, 2, 4), (1, 2, Fraction(1, 2)), (2, 6, Fraction(1, 3))],
)
def test_groups_of_one_size(blocks: int, students: int, size: Fraction) -> None:
    edges = group_edges(blocks, students)
    assert edges == [j * size for j in range(students + 1)]
    assert edges[-1] == blocks


@given(st.integers(1, 12), st.integers(1, 12))
def test_groups_that_do_not_fit_are_refused(blocks: int, students: int) -> None:
    if blocks % students == 0 or students % blocks == 0:
        assert len(group_edges(blocks, students)) == students + 1
    else:
        with pytest.raises(InputError, match=f"nfe is {students}, expected a divisor"):
            group_edges(blocks, students)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_groups_of_any_sizes(sizes: list[int]) -> None:
    edges = group_edges(sum(sizes), len(sizes), sizes)
    assert [end - start for start, end in itertools.pairwise(edges)] == sizes
    assert edges[0] == 0 and edges[-1] == sum(sizes)
    with pytest.raises(InputError, match=rf"add up to the teacher's {sum(sizes) + 1} block"):
        group_edges(sum(sizes) + 1, len(sizes), sizes)
    with pytest.raises(InputError, match=f"expected {len(sizes) + 1} whole number"):
        group_edges(sum(sizes), len(sizes) + 1, sizes)


@pytest.mark.parametrize("sizes", [[3, 0], [4, -1]])
def test_empty_groups_are_refused(sizes: list[int]) -> None:
    with pytest.raises(InputError, match="of at least 1"):
        group_edges(3, 2, sizes)


@pytest.mark.parametrize("students", [1, 3, 6, 12])
@pytest.mark.parametrize("points", [1, 4])
def test_groups_one_after_the_other_are_the_chain(students: int, points: int) -> None:
    chain, solver = gaussian_chain(3), SolverSpec("midpoint", 16)
    y = torch.randn(7, 2, dtype=torch.float64)
    x = y
    for group in reversed(groups(chain, students, solver)):
        x = group.trajectory(x, None, points)[:, 0]
    torch.testing.assert_close(x, chain.sample(y, solver=solver).x)


def test_blocks_of_a_teacher_may_have_steps_of_their_own() -> None:
    chain = gaussian_chain(3)
    solvers = [
        SolverSpec("euler", 1),
        SolverSpec("euler", 2, times=(0.3,)),
        SolverSpec("euler", 4, times=(0.8, 0.3, 0.1)),
    ]
    y = torch.randn(7, 2, dtype=torch.float64)

    def sampled(n_students: int) -> torch.Tensor:
        x = y
        for group in reversed(teacher_groups(chain, group_edges(3, n_students), solvers)):
            x = group.sample(x, None)
        return x

    expected = chain.sample(y, solver=solvers).x
    torch.testing.assert_close(sampled(1), expected)
    torch.testing.assert_close(sampled(3), expected)
    # Of a part of a block, whose times are for the whole, the share of its steps.
    halves = [SolverSpec("euler", n) for n in (2, 2, 4)]
    torch.testing.assert_close(sampled(6), chain.sample(y, solver=halves).x)


def test_a_trajectory_holds_the_states_at_equal_times() -> None:
    chain, solver = gaussian_chain(2), SolverSpec("euler", 8)
    y = torch.randn(5, 2, dtype=torch.float64)
    path = chain.sample(y, solver=solver, return_path=True).path
    assert path is not None
    (whole,) = groups(chain, 1, solver)
    trajectory = whole.trajectory(y, None, 4)
    assert trajectory.shape == (5, 4, 2)
    # Group times 0, 1/4, 1/2, 3/4 are t = 0 and 1/2 of block 1, and t = 0 and 1/2 of block 2.
    expected = [path[0][8], path[0][4], path[1][8], path[1][4]]
    torch.testing.assert_close(trajectory, torch.stack(expected, dim=1))
    torch.testing.assert_close(whole.sample(y, None), trajectory[:, 0])


@pytest.mark.parametrize(("n_blocks", "n_students"), [(1, 1), (1, 3), (3, 3), (3, 1), (4, 2)])
def test_the_velocity_of_a_group_leads_where_its_blocks_do(n_blocks: int, n_students: int) -> None:
    """Midpoint steps in the time of the group, none of which crosses from block to block."""
    y, steps = torch.randn(20, 2, dtype=torch.float64), 240
    for group in groups(gaussian_chain(n_blocks), n_students, SolverSpec("midpoint", 60)):
        x = y
        for k in range(steps, 0, -1):
            t = torch.full((20,), k / steps, dtype=torch.float64)
            # Inside the step, for the velocity jumps where two blocks meet.
            half = x - group.velocity(x, t - 1e-9, None) / (2 * steps)
            x = x - group.velocity(half, t - 0.5 / steps, None) / steps
        torch.testing.assert_close(x, group.sample(y, None), atol=1e-3, rtol=0)


def test_rows_of_a_group_are_asked_in_their_own_block_with_their_own_condition() -> None:
    def block(n: int) -> FlowBlock:
        def velocity(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            assert cond is not None
            return (100 * n + 10 * t + cond[:, 0])[:, None, None].expand_as(x)

        return FlowBlock(velocity, OUStep(0.1))

    solver = SolverSpec("euler", 1)
    group = TeacherGroup(FlowChain([block(1), block(2)]), Fraction(0), Fraction(2), solver)
    time = torch.tensor([0.0, 0.25, 0.5, 1.0])
    cond = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    found = group.velocity(torch.zeros(4, 1, 1), time, cond).flatten()
    # Twice the velocities, for the time of the group is half of that of its two blocks.
    assert found.tolist() == pytest.approx([2 * v for v in (101.0, 107.0, 203.0, 214.0)])
    part = TeacherGroup(group.chain, Fraction(3, 2), Fraction(2), solver)
    found = part.velocity(torch.zeros(2, 1, 1), torch.tensor([0.0, 1.0]), cond[:2]).flatten()
    assert found.tolist() == pytest.approx([0.5 * v for v in (206.0, 212.0)])


def test_points_that_do_not_divide_the_steps_are_refused() -> None:
    (group,) = groups(gaussian_chain(1), 1, SolverSpec("euler", 6))
    with pytest.raises(InputError, match=r"teacher_steps is 6.* multiple of .*points = 4"):
        group.trajectory(torch.randn(2, 2, dtype=torch.float64), None, 4)


def test_which_blocks_a_group_touches() -> None:
    chain = gaussian_chain(2)
    halves = groups(chain, 4, SolverSpec("euler", 2))
    assert [(g.first, g.last, g.whole_blocks) for g in halves] == [
        (1, 1, False),
        (1, 1, False),
        (2, 2, False),
        (2, 2, False),
    ]
    assert [(g.first, g.last, g.whole_blocks) for g in groups(chain, 1, SolverSpec())] == [
        (1, 2, True)
    ]


def test_step_sizes_of_students() -> None:
    def sizes_of(step_sizes: tuple[float, ...], n_students: int) -> list[float]:
        return group_step_sizes(step_sizes, group_edges(len(step_sizes) + 1, n_students))

    assert sizes_of((0.1, 0.2, 0.4), 4) == pytest.approx([0.1, 0.2, 0.4])
    assert sizes_of((0.1, 0.2, 0.4), 2) == pytest.approx([0.3])
    assert sizes_of((0.1, 0.2, 0.4), 1) == []
    assert group_step_sizes((0.1, 0.2), group_edges(3, 2, [1, 2])) == pytest.approx([0.1])
    assert group_step_sizes((0.1, 0.2), group_edges(3, 2, [2, 1])) == pytest.approx([0.3])
    # Half of a block with OU time 0.1, the block, and half of the free block: as much data as
    # noise, decay = noise_std = 1 / sqrt(2).
    assert sizes_of((0.1,), 4) == pytest.approx([0.05, 0.05, math.log(2) / 2])
    sizes = sizes_of((), 3)
    assert math.exp(-sizes[0]) == pytest.approx((2 / 3) / math.hypot(2 / 3, 1 / 3))
    assert all(size > 0 for size in itertools.chain(sizes, sizes_of((), 7)))
