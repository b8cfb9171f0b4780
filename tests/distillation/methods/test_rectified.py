"""Rectified students against the transport of a Gaussian teacher."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lfm_policy import InputError, load_policy
from lfm_policy.config.distillation import DistillConfig
from lfm_policy.distillation import distill
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.distillation.methods.rectified import RectifiedLoss
from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    OUSchedule,
    OUStep,
    SolverSpec,
    push_gaussian,
)
from lfm_policy.policy import read_header
from lfm_policy.training.start.source import tuned_config

MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
FREE = OUStep(None)


def gaussian_teacher(*step_sizes: float) -> TeacherGroup:
    """Return all blocks, with exact velocities, of a teacher of N(MEAN, COV)."""
    schedule, blocks = OUSchedule(step_sizes), []
    mean, cov = MEAN, COV
    for n in range(1, schedule.n_blocks + 1):
        step = schedule.step(n)
        blocks.append(FlowBlock(GaussianBlockVelocity(mean, cov, step), step))
        mean, cov = push_gaussian(mean, cov, step)
    solver = SolverSpec("midpoint", 40)
    return TeacherGroup(FlowChain(blocks), Fraction(0), Fraction(len(blocks)), solver)


def pairs(group: TeacherGroup, rows: int) -> tuple[Tensor, Tensor]:
    y = torch.randn(rows, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return y, group.trajectory(y, None, 1)


class Straight(nn.Module):
    """The velocity of straight lines from N(0, I) to N(mean, diag(std)^2), which is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.root = nn.Parameter(torch.eye(2, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        t = t[:, None, None]
        # x = (1 - t) (mean + root y) + t y, so that y is known.
        eye = torch.eye(2, dtype=x.dtype)
        y = torch.linalg.solve((1 - t) * self.root + t * eye, (x - (1 - t) * self.mean).mT).mT
        return y - self.mean - y @ self.root.mT


@pytest.mark.parametrize("step_sizes", [(), (0.1,), (0.05, 0.4)])
def test_the_optimal_transport_has_no_loss(step_sizes: tuple[float, ...]) -> None:
    """A teacher's map between Gaussians is the optimal transport: its lines do not cross."""
    group = gaussian_teacher(*step_sizes)
    y, path = pairs(group, 200)
    exact = GaussianBlockVelocity(MEAN, COV, FREE, "linear", "optimal")
    loss = RectifiedLoss(exact, group, DistillConfig())  # type: ignore[arg-type]
    assert float(loss(y, path, None)) < 1e-5
    # The teacher's own velocity is no straight line.
    own = RectifiedLoss(group.chain.block(1).network, group, DistillConfig())  # type: ignore[arg-type]
    assert float(own(y, path, None)) > 1e-2


def test_a_student_finds_the_teachers_map_and_follows_it_in_any_number_of_steps() -> None:
    torch.manual_seed(0)
    group = gaussian_teacher(0.2)
    y, path = pairs(group, 256)
    loss = RectifiedLoss(Straight(), group, DistillConfig())
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(y, path, None).backward()
        optimizer.step()
    student = FlowBlock(loss.network, FREE)
    for steps in (1, 2, 5):
        solver = SolverSpec("euler", steps)
        found = student.run(y, None, t_start=1.0, t_end=0.0, solver=solver).x
        torch.testing.assert_close(found, path[:, 0], atol=0.02, rtol=0)


@pytest.mark.slow
def test_more_evaluations_may_be_asked_for(teacher: Path, tmp_path: Path) -> None:
    overrides = ["training.total_steps=8", "distill.samples=1", "distill.teacher_steps=2"]
    student = load_policy(
        distill(
            teacher,
            tmp_path / "student",
            nfe=1,
            method="rectified",
            overrides=overrides,
            device="cpu",
            quiet=True,
        )
    )
    assert student.nfe == 1 and student.config.flow.method.name == "velocity"
    student.set_sampler(nfe=4)
    assert student.nfe == 4
    # Trained on by demonstrations, it goes on learning all times.
    assert tuned_config(read_header(tmp_path / "student")).flow.time.name == "uniform"


@pytest.mark.slow
def test_students_have_the_method_of_their_distillation(teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="flow.method is 'data', expected 'velocity'.*'rectified'"):
        distill(
            teacher,
            tmp_path / "student",
            nfe=1,
            method="rectified",
            overrides=["flow.method=data"],
            device="cpu",
            quiet=True,
        )
