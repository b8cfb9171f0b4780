"""States of a teacher: at their own times in the student's chunk, and where data can be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.distillation import distill
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.distillation.samples import Pairs, TeacherSamples
from lfm_policy.distillation.states import NOISES, ChunkShift, Reach
from lfm_policy.flow import OUSchedule
from lfm_policy.policy import read_header

SCHEDULE = OUSchedule((0.05, 0.3))
REACH = Reach(torch.tensor([-1.0, 0.2]), torch.tensor([1.0, 0.2]), SCHEDULE)


@given(steps=st.integers(-4, 4), horizon=st.integers(5, 9), points=st.integers(1, 3))
def test_an_action_stands_at_its_own_time(steps: int, horizon: int, points: int) -> None:
    """Of a chunk whose numbers are the teacher's places, the student's has its own plus steps."""
    shift = ChunkShift(steps)
    x = torch.arange(float(horizon))[None, :, None].repeat(2, 1, 3)
    expected = (torch.arange(horizon) + steps).clamp(0, horizon - 1).float()
    assert torch.equal(shift.chunk(x)[1, :, 2], expected)
    assert torch.equal(shift.back(shift.state(x)), x)
    inside = (torch.arange(horizon) + steps >= 0) & (torch.arange(horizon) + steps < horizon)
    assert torch.equal(shift.state(x)[:, inside], shift.chunk(x)[:, inside])
    path = torch.stack([x + 100 * k for k in range(points)], dim=1)
    assert torch.equal(shift.path(path, to_data=False), shift.state(path))
    to_data = shift.path(path, to_data=True)
    assert torch.equal(to_data[:, 0], shift.chunk(x))
    assert torch.equal(to_data[:, 1:], shift.state(path)[:, 1:])


@pytest.mark.parametrize("n", [0, 1, 2])
def test_diffused_data_are_left_as_they_are_and_what_is_far_is_not(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(5000, 4, 2, generator=generator) * torch.tensor([2.0, 0.0])
    data += torch.tensor([-1.0, 0.2])
    states = SCHEDULE.marginal(n).diffuse(data, generator=generator)
    kept = REACH.bounded(states, Fraction(n))
    assert (kept != states).float().mean() < 1e-4
    far = REACH.bounded(100 * states.sign(), Fraction(n))
    step = SCHEDULE.marginal(n)
    most = step.decay * torch.tensor([1.0, 0.2]) + NOISES * step.noise_std
    torch.testing.assert_close(far.amax((0, 1)), most)


def test_the_noise_has_no_bounds_and_inside_a_block_both_ends_count() -> None:
    far = torch.tensor([[50.0, -50.0]])
    for position in (Fraction(3), Fraction(5, 2)):
        torch.testing.assert_close(REACH.bounded(far, position), far)
    inside = REACH.bounded(far, Fraction(1, 2))
    torch.testing.assert_close(inside, REACH.bounded(far, Fraction(1)))


def test_a_teacher_that_does_not_clip_has_none(small_run: Path) -> None:
    header = read_header(small_run)
    reach = Reach.of(header)
    assert reach is not None and reach.schedule.n_blocks == header.config.flow.n_blocks
    torch.testing.assert_close(reach.high, torch.ones(2))
    policy = replace(header.config.policy, clip_actions=False)
    assert Reach.of(replace(header, config=replace(header.config, policy=policy))) is None


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["teacher", "corrected", "student"])
def test_students_do_not_learn_what_is_never_executed(
    teacher: Path, tmp_path: Path, inputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajectory, pairs = TeacherGroup.trajectory, TeacherSamples.pairs
    learned: list[Pairs] = []

    def far(group: TeacherGroup, *arguments: object) -> torch.Tensor:
        return 100 * trajectory(group, *arguments)  # type: ignore[arg-type]

    def spy(samples: TeacherSamples, *arguments: object) -> Pairs:
        learned.append(pairs(samples, *arguments))  # type: ignore[arg-type]
        return learned[-1]

    monkeypatch.setattr(TeacherGroup, "trajectory", far)
    monkeypatch.setattr(TeacherSamples, "pairs", spy)
    overrides = ["training.total_steps=2", f"distill.inputs={inputs}", "distill.samples=1"]
    distill(teacher, tmp_path / "s", nfe=2, overrides=overrides, device="cpu", quiet=True)
    largest = [float(pair.path[:, 0].abs().max()) for pair in learned]
    assert len(largest) >= 2 and min(largest) == pytest.approx(1) and 1 < max(largest) < 6
