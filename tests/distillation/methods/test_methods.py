"""The losses of the distillation methods, and each of them from a teacher to a student."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lfm_policy import InputError, load_policy
from lfm_policy.config.distillation import DistillConfig
from lfm_policy.distillation import distill
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.distillation.methods import METHODS
from lfm_policy.distillation.methods.base import state_at
from lfm_policy.distillation.methods.consistency import ConsistencyLoss
from lfm_policy.distillation.methods.distribution import DistributionLoss
from lfm_policy.distillation.methods.progressive import ProgressiveLoss, prime_factors
from lfm_policy.distillation.methods.regression import RegressionLoss
from lfm_policy.flow import FlowBlock, FlowChain, GaussianBlockVelocity, OUStep, SolverSpec

pytestmark = pytest.mark.slow

QUICK = [
    "training.total_steps=12",
    "training.warmup_steps=2",
    "distill.samples=2",
    "distill.teacher_steps=4",
    "distill.trajectory_points=4",
]


def options(**values: object) -> DistillConfig:
    return DistillConfig(**values)  # type: ignore[arg-type]


class Straight(nn.Module):
    """A velocity that is the same everywhere on a path: where it leads is exact in one step."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        return self.value.expand_as(x)


def straight_path(y: torch.Tensor, value: float, points: int) -> torch.Tensor:
    return torch.stack([y - value * (1 - i / points) for i in range(points)], dim=1)


def test_state_at_counts_from_the_data_side() -> None:
    y = torch.full((3, 1, 1), 9.0)
    path = torch.arange(12.0).reshape(3, 4, 1, 1)
    states = state_at(y, path, torch.tensor([0, 3, 4]))
    assert states.flatten().tolist() == [0.0, 7.0, 9.0]


@pytest.mark.parametrize(("number", "factors"), [(8, [2, 2, 2]), (12, [2, 2, 3]), (7, [7])])
def test_prime_factors(number: int, factors: list[int]) -> None:
    assert prime_factors(number) == factors


@pytest.mark.parametrize("points", [2, 4, 6])
def test_straight_paths_are_the_optimum_of_every_round(points: int) -> None:
    y = torch.randn(64, 3, 2)
    path = straight_path(y, 1.5, points)
    loss = ProgressiveLoss(Straight(1.5), None, options(trajectory_points=points))  # type: ignore[arg-type]
    assert loss.n_rounds == len(prime_factors(points))
    for number in range(loss.n_rounds):
        loss.start_round(number)
        assert float(loss(y, path, None).detach()) == pytest.approx(0, abs=1e-10)
        wrong = ProgressiveLoss(Straight(1.0), None, options(trajectory_points=points))  # type: ignore[arg-type]
        wrong.start_round(0)
        assert float(wrong(y, path, None).detach()) == pytest.approx(0.25)
    consistency = ConsistencyLoss(Straight(1.5), None, options(trajectory_points=points))  # type: ignore[arg-type]
    assert float(consistency(y, path, None)) == pytest.approx(0, abs=1e-10)


def test_later_rounds_follow_the_student_of_the_round_before() -> None:
    loss = ProgressiveLoss(Straight(1.0), None, options(trajectory_points=4))  # type: ignore[arg-type]
    loss.start_round(0)
    with torch.no_grad():
        loss.network.value.fill_(2.0)
    loss.start_round(1)
    with torch.no_grad():
        loss.network.value.fill_(5.0)
    y = torch.randn(8, 3, 2)
    # Not the teacher's 7, but the 2 that the first round ended with.
    assert float(loss(y, straight_path(y, 7.0, 4), None)) == pytest.approx(9.0)
    assert float(loss.kept_tensors()["value"]) == 2.0


def test_consistency_compares_neighbours_and_lets_no_gradient_through_the_target() -> None:
    loss = ConsistencyLoss(Straight(1.0), None, options(trajectory_points=2))  # type: ignore[arg-type]
    y = torch.zeros(500, 1, 1)
    # Neighbours are 1.5 apart, a student of velocity 1 sees them 0.5 apart: (1.5 - 0.5)^2.
    value = loss(y, straight_path(y, 3.0, 2), None)
    assert float(value) == pytest.approx(1.0)
    value.backward()
    # d/du of (x_i - t_i u - target)^2 with a fixed target is -2 t_i, t_i = 1/2 or 1.
    assert float(loss.network.value.grad) == pytest.approx(-2 * 0.75, abs=0.1)


class GaussianFlow(nn.Module):
    """The exact velocity of the flow from N(0, I) to N(mean, std^2), with learned parameters."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))
        self.log_std = nn.Parameter(torch.tensor(std).log())

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        t = t[:, None, None]
        variance = torch.exp(2 * self.log_std)
        spread = (1 - t) ** 2 * variance + t**2
        return -self.mean + (t - (1 - t) * variance) / spread * (x - (1 - t) * self.mean)


def gaussian_teacher(mean: float) -> TeacherGroup:
    step = OUStep(None)
    velocity = GaussianBlockVelocity(torch.tensor([mean]), torch.eye(1), step)
    return TeacherGroup(
        FlowChain([FlowBlock(velocity, step)]), Fraction(0), Fraction(1), SolverSpec("euler", 4)
    )


def test_distribution_matching_finds_the_teachers_mean() -> None:
    torch.manual_seed(0)
    loss = DistributionLoss(GaussianFlow(0.0, 1.0), gaussian_teacher(2.0), options())
    assert {name.split(".")[0] for name, _ in loss.named_parameters()} == {"network", "critic"}
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(400):
        y = torch.randn(128, 1, 1)
        optimizer.zero_grad()
        # The pairs say nothing: without regression_weight they are not looked at.
        loss(y, torch.full((128, 1, 1, 1), torch.nan), None).backward()
        optimizer.step()
    assert float(loss.network.mean) == pytest.approx(2.0, abs=0.15)
    assert float(loss.critic.mean) == pytest.approx(2.0, abs=0.15)


def test_the_regression_weight_counts_the_pairs() -> None:
    group, y = gaussian_teacher(0.0), torch.randn(16, 1, 1)
    values = []
    for weight in (0.0, 2.0):
        loss = DistributionLoss(GaussianFlow(1.0, 1.0), group, options(regression_weight=weight))
        torch.manual_seed(3)
        values.append(float(loss(y, torch.full((16, 1, 1, 1), 4.0), None)))
    # The one step of this flow ends in the mean, 1: (1 - 4)^2, twice.
    assert values[1] - values[0] == pytest.approx(18.0, rel=1e-4)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.5, 0.5])])
def test_a_scale_of_errors_counts_large_ones_with_their_size(weights: torch.Tensor | None) -> None:
    loss = RegressionLoss(Straight(0.0), gaussian_teacher(0.0), options(), weights)
    robust = RegressionLoss(
        Straight(0.0), gaussian_teacher(0.0), options(error_scale=0.01), weights
    )
    unit = torch.randn(1, 2, 3)
    unit /= loss.mean_square(unit).sqrt()
    for size in (1e-6, 1e-4):
        torch.testing.assert_close(
            robust.distance(size * unit), torch.tensor(size**2), rtol=1e-3, atol=0
        )
    torch.testing.assert_close(
        robust.distance(10 * unit), torch.tensor(2 * 0.01 * (10 - 0.01)), rtol=1e-4, atol=0
    )
    # Each chunk counts for itself, and nothing changes without a scale.
    both = torch.cat([1e-4 * unit, 10 * unit])
    torch.testing.assert_close(
        robust.distance(both), (robust.distance(both[:1]) + robust.distance(both[1:])) / 2
    )
    torch.testing.assert_close(loss.distance(both), loss.mean_square(both))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5])
def test_the_power_says_how_large_errors_count(power: float) -> None:
    group, difference = gaussian_teacher(0.0), torch.full((1, 2, 3), 0.3, requires_grad=True)
    loss = RegressionLoss(
        Straight(0.0), group, options(error_scale=0.1, error_power=power), torch.tensor([1.5, 0.5])
    )
    (gradient,) = torch.autograd.grad(loss.distance(difference), difference)
    (plain,) = torch.autograd.grad(loss.mean_square(difference), difference)
    # That of the square, divided by (1 + s / c^2)^power.
    torch.testing.assert_close(gradient, plain / (1 + 0.3**2 / 0.1**2) ** power)


def test_distribution_matching_needs_whole_blocks() -> None:
    group = gaussian_teacher(0.0)
    half = TeacherGroup(group.chain, Fraction(0), Fraction(1, 2), group.solver)
    with pytest.raises(InputError, match="needs students of whole blocks"):
        DistributionLoss(GaussianFlow(0.0, 1.0), half, options())


@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("nfe", [1, 2])
def test_every_method_makes_a_student_and_resumes_to_the_bit(
    teacher: Path,
    tmp_path: Path,
    interrupt_step: Callable[..., list[int]],
    method: str,
    nfe: int,
) -> None:
    arguments = {
        "nfe": nfe,
        "method": method,
        "overrides": [*QUICK, "training.checkpoint_every=1"],
        "device": "cpu",
        "quiet": True,
    }
    whole = distill(teacher, tmp_path / "whole", **arguments)
    policy = load_policy(whole)
    assert policy.nfe == nfe
    assert policy.config.distill.method == method
    # Nothing but the policy's networks is saved with it.
    assert {key.split(".")[0] for key in load_file(whole / "model.safetensors")} == {"blocks"}
    interrupt_step(4, 8)  # in one round, and in the next
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            distill(teacher, tmp_path / "pieces", resume=True, **arguments)
    pieces = distill(teacher, tmp_path / "pieces", resume=True, **arguments)
    a, b = load_file(whole / "model.safetensors"), load_file(pieces / "model.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_distribution_matching_is_for_all_of_the_noise(teacher: Path, tmp_path: Path) -> None:
    overrides = [*QUICK, "sampler.noise_scale=0.5"]
    with pytest.raises(InputError, match=r"noise_scale is 0.5, expected 1 for .* 'distribution'"):
        distill(teacher, tmp_path / "x", nfe=1, method="distribution", overrides=overrides)
    assert not (tmp_path / "x").exists()


def test_more_students_than_blocks(teacher: Path, tmp_path: Path) -> None:
    arguments = {"nfe": 4, "overrides": QUICK, "device": "cpu", "quiet": True}
    student = load_policy(distill(teacher, tmp_path / "four", **arguments))
    assert student.nfe == student.model.n_blocks == 4
    with pytest.raises(InputError, match="needs students of whole blocks"):
        distill(teacher, tmp_path / "other", method="distribution", **arguments)


def test_options_that_only_other_methods_know_are_named(teacher: Path, tmp_path: Path) -> None:
    assert all(
        hasattr(DistillConfig(), name)
        for method in METHODS.names()
        for name in METHODS.get(method).own_options
    )
    overrides = [*QUICK, "distill.trajectory_points=8", "distill.regression_weight=0.5"]
    overrides.append("flow.method.error_scale=0.1")
    with pytest.warns(UserWarning, match="means nothing to the method 'regression'") as caught:
        distill(teacher, tmp_path / "x", nfe=1, overrides=overrides, device="cpu", quiet=True)
    messages = [str(w.message) for w in caught if "means nothing" in str(w.message)]
    assert messages == [
        "flow.method.error_scale is 0.1, which means nothing to a student; how it learns is said "
        "by the options of distill",
        "distill.regression_weight is 0.5, which means nothing to the method 'regression'",
    ]
