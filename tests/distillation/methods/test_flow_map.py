"""Flow maps distilled from Gaussian teachers, whose own maps are known."""

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
from lfm_policy.distillation.methods.flow_map import FlowMapLoss
from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    OUSchedule,
    SolverSpec,
    push_gaussian,
)
from lfm_policy.policy import read_header
from lfm_policy.training.start.source import tuned_config

MEAN = torch.tensor([0.5, -0.3], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
GROUPS = [
    ((), 0, 1),
    ((), Fraction(1, 3), Fraction(2, 3)),  # a part of a block
    ((0.1,), 0, 2),
    ((0.05, 0.4), 0, 2),
    ((0.05, 0.4), 1, 3),
]


def gaussian_chain(*step_sizes: float) -> FlowChain:
    """Return the exact blocks of N(MEAN, COV)."""
    schedule, blocks = OUSchedule(step_sizes), []
    mean, cov = MEAN, COV
    for n in range(1, schedule.n_blocks + 1):
        step = schedule.step(n)
        blocks.append(FlowBlock(GaussianBlockVelocity(mean, cov, step), step))
        mean, cov = push_gaussian(mean, cov, step)
    return FlowChain(blocks)


def group_of(step_sizes: tuple[float, ...], start: object, end: object) -> TeacherGroup:
    solver = SolverSpec("midpoint", 48)
    return TeacherGroup(gaussian_chain(*step_sizes), Fraction(start), Fraction(end), solver)  # type: ignore[arg-type]


def rows_of(group: TeacherGroup, rows: int, points: int) -> tuple[Tensor, Tensor]:
    y = torch.randn(rows, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return y, group.trajectory(y, None, points)


class ExactMap(nn.Module):
    """u(x, t, s) of a group, from the flow maps of its blocks, one after the other."""

    def __init__(self, group: TeacherGroup, shift: float = 0.0) -> None:
        super().__init__()
        self._group, self._shift = (group,), shift

    def forward(self, x: Tensor, times: Tensor, cond: Tensor | None = None) -> Tensor:
        group, end = self._group[0], x
        t, s = (float(group.start) + times * float(group.end - group.start)).unbind(1)
        for n in range(group.last, group.first - 1, -1):
            field = group.chain.block(n).network
            high, low = (p.clamp(n - 1, n) - (n - 1) for p in (t, s))
            end = field.flow_map(end, high, low)
        length = (times[:, 0] - times[:, 1])[:, None, None]
        return (x - end) / length + self._shift


@pytest.mark.parametrize(("step_sizes", "start", "end"), GROUPS)
def test_the_teachers_own_map_has_no_loss(
    step_sizes: tuple[float, ...], start: object, end: object
) -> None:
    group = group_of(step_sizes, start, end)
    y, path = rows_of(group, 300, 4)
    loss = FlowMapLoss(ExactMap(group), group, DistillConfig())
    torch.manual_seed(0)
    assert float(loss(y, path, None)) < 1e-12
    assert float(FlowMapLoss(ExactMap(group, 0.3), group, DistillConfig())(y, path, None)) > 1e-4


class Learned(nn.Module):
    """u(x, t, s) of features of x and the times."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.last = nn.Linear(64, 2)
        self.double()

    def forward(self, x: Tensor, times: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.last(self.layers(torch.cat([x.flatten(1), times], dim=1))).view_as(x)


@pytest.mark.slow
def test_a_student_finds_the_teachers_map_from_its_velocity_alone() -> None:
    torch.manual_seed(0)
    group = group_of((), 0, 1)
    y, path = rows_of(group, 512, 2)
    loss = FlowMapLoss(Learned(), group, DistillConfig())
    optimizer = torch.optim.Adam(loss.parameters(), lr=5e-3)
    for k in range(500):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - k / 500)
        optimizer.zero_grad()
        # Where the teacher's ways end is not looked at.
        hidden = path.clone()
        hidden[:, 0] = torch.nan
        loss(y, hidden, None).backward()
        optimizer.step()
    with torch.no_grad():
        one = loss.one_step(y, None)
        middle = loss.flow_map(path[:, 1], torch.full((512,), 0.5).double(), None)
    for found in (one, middle):
        assert float((found - path[:, 0]).square().mean().sqrt()) < 0.03
    assert float((y - path[:, 0]).square().mean().sqrt()) > 0.5


def quick(*overrides: str) -> list[str]:
    return [
        "training.total_steps=8",
        "distill.samples=1",
        "distill.teacher_steps=4",
        "distill.trajectory_points=2",
        *overrides,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("nfe", [1, 4])
def test_more_evaluations_may_be_asked_for(teacher: Path, tmp_path: Path, nfe: int) -> None:
    arguments = {"nfe": nfe, "method": "flow_map", "device": "cpu", "quiet": True}
    student = load_policy(distill(teacher, tmp_path / "x", overrides=quick(), **arguments))
    assert student.nfe == nfe and student.config.flow.method.name == "flow_map"
    student.set_sampler(nfe=2 * nfe)
    assert student.nfe == 2 * nfe
    # Trained on by demonstrations, it goes on as a flow map of all times.
    assert tuned_config(read_header(tmp_path / "x")).flow.time.name == "uniform"


@pytest.mark.slow
def test_another_rule_is_refused(teacher: Path, tmp_path: Path) -> None:
    arguments = {"nfe": 1, "method": "flow_map", "device": "cpu", "quiet": True}
    with pytest.raises(InputError, match="rule is 'semigroup', expected 'lagrangian'"):
        distill(teacher, tmp_path / "x", overrides=quick("flow.method.rule=semigroup"), **arguments)
