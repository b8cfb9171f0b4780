"""Shortcut models: what a step is taught, from where steps begin, and what a training reaches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    OUSchedule,
    OUStep,
    ShortcutConfig,
    ShortcutMethod,
    SolverSpec,
    fit,
    push_gaussian,
)
from lfm_policy.flow.methods import Steps

Gaussian = tuple[Tensor, Tensor]


def gaussian(dimension: int) -> Gaussian:
    generator = torch.Generator().manual_seed(dimension)
    root = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    cov = 0.3 * root @ root.mT + 0.05 * torch.eye(dimension, dtype=torch.float64)
    return torch.randn(dimension, generator=generator, dtype=torch.float64), cov


def method(**values: float) -> ShortcutMethod:
    made = ShortcutConfig(**values).create()
    assert isinstance(made, ShortcutMethod)
    return made


def drawn(n: int, finest_steps: int) -> Gaussian:
    t = torch.rand(n, dtype=torch.float64)
    return method(finest_steps=finest_steps).times(t, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("finest_steps", [2, 8, 128])
def test_steps_are_powers_of_a_half_and_lie_on_their_own_grid(finest_steps: int) -> None:
    t, s = drawn(40_000, finest_steps)
    length = t - s
    sizes = [2.0**-k for k in range(finest_steps.bit_length() - 1)]
    assert sorted(length.unique().tolist(), reverse=True) == sizes
    assert float(s.min()) == 0 and float(t.max()) == 1
    for size in sizes:  # each as often as the others, from each of its places
        of_size = length == size
        assert float(of_size.double().mean()) == pytest.approx(1 / len(sizes), abs=0.01)
        places, counts = (t[of_size] / size).unique(return_counts=True)
        assert torch.equal(places, torch.arange(1, 1 / size + 1, dtype=torch.float64))
        assert int(counts.min()) > 0.3 * float(counts.double().mean())


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("gamma", [0.02, 0.5, None])
@pytest.mark.parametrize("interpolant", ["linear", "trigonometric"])
def test_the_exact_mean_velocity_is_its_own_target(
    dimension: int, gamma: float | None, interpolant: str
) -> None:
    """Two halves of an exact step are the step: the flow map composes."""
    exact = GaussianBlockVelocity(*gaussian(dimension), OUStep(gamma), interpolant)
    t, s = drawn(300, 128)
    keep = t - s > 2 / 128  # the shortest follow the velocity
    t, s = t[keep], s[keep]
    x = torch.randn(len(t), dimension, dtype=torch.float64)
    steps = Steps(x, torch.zeros_like(x), t, s, None)
    target = method().target(exact.mean_velocity, steps, exact.mean_velocity)
    own = exact.mean_velocity(x, torch.stack([t, s], 1))
    torch.testing.assert_close(target, own, rtol=1e-9, atol=1e-9)


def test_the_shortest_steps_are_two_of_eulers() -> None:
    exact = GaussianBlockVelocity(*gaussian(2), OUStep(None))
    x, t = torch.randn(50, 2, dtype=torch.float64), torch.full((50,), 0.75, dtype=torch.float64)
    d = 1 / 16
    target = method(finest_steps=16).target(
        exact.mean_velocity, Steps(x, x, t, t - 2 * d, None), exact.mean_velocity
    )
    middle = x - d * exact(x, t)
    end = middle - d * exact(middle, t - d)
    torch.testing.assert_close(x - 2 * d * target, end)


def test_targets_come_from_the_average_and_the_points_from_the_paths_at_the_drawn_times() -> None:
    """A network without an error: the average's answers are what is learnt of steps."""
    asked: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, times: Tensor, cond: Tensor | None) -> Tensor:
        asked.append((x, times))
        return torch.zeros_like(x)

    def average(x: Tensor, times: Tensor, cond: Tensor | None) -> Tensor:
        return torch.full_like(x, 3.0)

    x_l = torch.zeros(64, 3, 2)
    block = FlowBlock(network, OUStep(None), method=ShortcutConfig(equal_share=0.25))
    loss = block.loss(x_l, average=average, generator=torch.Generator().manual_seed(0))
    ((x, times),) = asked
    t, s = times.unbind(1)
    assert torch.equal(t[:16], s[:16]) and bool((t[16:] > s[16:]).all())
    # From data that are 0 a path is t z: what is learnt of the first 16 is z, of the rest 3.
    noise = x / t[:, None, None]
    assert 0.7 < float(noise[16:].std()) < 1.3
    torch.testing.assert_close(
        loss, torch.cat([noise[:16] ** 2, torch.full((48, 3, 2), 9.0)]).mean()
    )


@pytest.mark.parametrize("finest_steps", [3, 100])
def test_other_numbers_of_steps_are_refused(finest_steps: int) -> None:
    with pytest.raises(InputError, match=f"finest_steps is {finest_steps}; expected a power of"):
        ShortcutConfig(finest_steps=finest_steps)


class Net(nn.Module):
    n_times = 2

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2)
        )

    def forward(self, x: Tensor, times: Tensor, cond: Tensor | None) -> Tensor:
        return self.net(torch.cat([x, times], 1))


@pytest.mark.slow
@pytest.mark.parametrize("step_sizes", [(), (0.3,)])
def test_one_evaluation_per_block_comes_near_the_exact_map(step_sizes: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    mean, cov = gaussian(2)
    schedule = OUSchedule(step_sizes)
    config = ShortcutConfig(equal_share=0.5, finest_steps=16)
    numbers = range(1, schedule.n_blocks + 1)
    chain = FlowChain([FlowBlock(Net(), schedule.step(n), method=config) for n in numbers])
    x = (mean + torch.randn(8000, 2, dtype=torch.float64) @ torch.linalg.cholesky(cov).mT).float()
    fit(chain, x, steps=700, batch_size=128, learning_rate=4e-3, warm_start=False)
    z = torch.randn(1000, 2, dtype=torch.float64)
    exact = z
    for n in reversed(numbers):
        moments = push_gaussian(mean, cov, schedule.marginal(n - 1))
        map_back = GaussianBlockVelocity(*moments, schedule.step(n)).flow_map
        exact = map_back(exact, torch.ones(1000).double(), torch.zeros(1000).double())
    with torch.no_grad():
        found = chain.sample(z.float(), solver=SolverSpec("euler", 1))
    assert found.nfe == schedule.n_blocks
    error = (found.x - exact).square().mean().sqrt()
    # One step of Euler's along the exact velocity is off by far more: it ends at the mean.
    assert float(error) < 0.35 * float((exact - mean).square().mean().sqrt())
