from __future__ import annotations

import math

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.flow import OUSchedule, OUStep, geometric_step_sizes


def test_geometric_sizes_follow_the_paper() -> None:
    assert geometric_step_sizes(4, 0.3, 1.5) == pytest.approx((0.3, 0.45, 0.675))
    assert geometric_step_sizes(1, 0.3, 1.5) == ()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 0.1, 1.5), "n_blocks is 0"),
        ((3, 0.0, 1.5), "c is 0.0"),
        ((3, -0.1, 1.5), "c is -0.1"),
        ((3, float("nan"), 1.5), "c is nan"),
        ((3, 0.1, float("inf")), "rho is inf"),
        ((3, 0.1, 0.0), "rho is 0.0"),
        ((4, 1.0, 1e200), "rho=1e\\+200"),
    ],
)
def test_bad_geometric_sizes(arguments: tuple[int, float, float], named: str) -> None:
    with pytest.raises(InputError, match=named):
        geometric_step_sizes(*arguments)


@pytest.mark.parametrize("size", [0.0, -0.1, float("nan"), float("inf")])
def test_bad_sizes_in_a_list(size: float) -> None:
    with pytest.raises(ValueError, match="step size 2 is"):
        OUSchedule((0.1, size))


def test_steps_of_a_schedule() -> None:
    schedule = OUSchedule((0.1, 0.2))
    assert schedule.n_blocks == 3
    assert schedule.step(2).gamma == 0.2
    assert schedule.step(2).decay == pytest.approx(math.exp(-0.2))
    assert schedule.step(2).noise_std == pytest.approx(math.sqrt(1 - math.exp(-0.4)))
    last = schedule.step(3)
    assert (last.gamma, last.decay, last.noise_std, last.is_free) == (None, 0.0, 1.0, True)
    for n in (0, 4):
        with pytest.raises(ValueError, match=r"outside 1\.\.3"):
            schedule.step(n)


def test_a_list_becomes_a_hashable_tuple() -> None:
    schedule = OUSchedule([1, 0.5])  # type: ignore[arg-type]
    assert schedule.step_sizes == (1.0, 0.5)
    assert hash(schedule) == hash(OUSchedule((1.0, 0.5)))


def test_one_block_is_free() -> None:
    assert OUSchedule(()).step(1).is_free


def test_marginals_compose_the_steps() -> None:
    schedule = OUSchedule((0.1, 0.25, 0.7))
    assert (schedule.marginal(0).decay, schedule.marginal(0).noise_std) == (1.0, 0.0)
    assert schedule.marginal(4).is_free
    decay, variance = 1.0, 0.0
    for n in (1, 2, 3):
        step, marginal = schedule.step(n), schedule.marginal(n)
        decay, variance = step.decay * decay, step.decay**2 * variance + step.noise_std**2
        assert marginal.decay == pytest.approx(decay, rel=1e-12)
        assert marginal.noise_std**2 == pytest.approx(variance, rel=1e-12)
    with pytest.raises(ValueError, match=r"outside 0\.\.4"):
        schedule.marginal(5)


def test_tiny_steps_keep_their_noise() -> None:
    assert OUStep(1e-20).noise_std == pytest.approx(math.sqrt(2e-20))


def test_a_step_rejects_bad_times() -> None:
    for gamma in (-0.1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="gamma"):
            OUStep(gamma)


def test_diffusion_is_the_transition_and_reproduces() -> None:
    x = torch.full((20_000, 2), 3.0, dtype=torch.float64)
    step = OUStep(0.4)
    x_r = step.diffuse(x, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x_r.mean(0), step.decay * x[0], atol=0.02, rtol=0)
    torch.testing.assert_close(x_r.std(), torch.tensor(step.noise_std).double(), atol=0.01, rtol=0)
    assert torch.equal(x_r, step.diffuse(x, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(x, torch.full_like(x, 3.0))
    torch.manual_seed(1)
    expected = torch.randn(5, 3)
    torch.manual_seed(1)
    assert torch.equal(OUStep(None).diffuse(torch.ones(5, 3)), expected)
