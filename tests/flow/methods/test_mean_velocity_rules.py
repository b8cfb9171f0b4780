"""Rules for mean velocities against closed forms, and tiny trainings that end near these."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    FlowMapConfig,
    GaussianBlockVelocity,
    MeanFlowConfig,
    MeanVelocityConfig,
    OUSchedule,
    OUStep,
    SolverSpec,
    fit,
    push_gaussian,
)
from lfm_policy.flow.methods import Steps

RULES = {
    "mean_flow": MeanFlowConfig(),
    "lagrangian": FlowMapConfig(rule="lagrangian"),
    "eulerian": FlowMapConfig(rule="eulerian"),
    "semigroup": FlowMapConfig(rule="semigroup"),
}
rules = pytest.mark.parametrize("name", RULES)


def gaussian(dimension: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(dimension)
    square = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    mean = torch.randn(dimension, generator=generator, dtype=torch.float64)
    return mean, square @ square.mT / dimension + 0.1 * torch.eye(dimension).double()


@rules
@pytest.mark.parametrize("dimension", [1, 2, 6])
@pytest.mark.parametrize("step", [OUStep(0.01), OUStep(0.3), OUStep(1.5), OUStep(None)])
@pytest.mark.parametrize("interpolant", ["linear", "trigonometric"])
def test_the_exact_mean_velocity_is_its_own_target(
    name: str, dimension: int, step: OUStep, interpolant: str
) -> None:
    """With the velocity in the place of dI_t/dt, which it is the mean of."""
    exact = GaussianBlockVelocity(*gaussian(dimension), step, interpolant)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, dimension, generator=generator, dtype=torch.float64)
    times = torch.rand(40, 2, generator=generator, dtype=torch.float64).sort(1).values
    times[:3] = torch.tensor([[0.0, 1.0], [0.0, 0.3], [0.7, 1.0]])
    s, t = times.unbind(1)
    steps = Steps(x, exact(x, t), t, s, None)
    method: Any = RULES[name].create()
    network = exact.mean_velocity
    target = method.target(network, steps, network)
    torch.testing.assert_close(method.output(network, steps, 0), target, atol=1e-5, rtol=1e-5)
    if name != "lagrangian":
        torch.testing.assert_close(
            target, exact.mean_velocity(x, torch.stack([t, s], 1)), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(("t", "s"), [(0.9, 0.2), (1.0, 0.0)])
@pytest.mark.parametrize("step", [OUStep(0.3), OUStep(None)], ids=["step", "free"])
def test_mean_flow_over_sampled_pairs_has_the_mean_velocity_as_its_minimum(
    step: OUStep, t: float, s: float
) -> None:
    """Least squares of the targets of 100,000 pairs on I_t: the derivative of a path is noisy."""
    n = 100_000
    mean, cov = gaussian(2)
    exact = GaussianBlockVelocity(mean, cov, step)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x_l = mean + noise @ torch.linalg.cholesky(cov).mT
    block = FlowBlock(exact.mean_velocity, step, method="mean_flow")
    pairs = block.path_sample(x_l, generator=generator)
    at = block.interpolant.interpolate(pairs.x_l, pairs.x_r, torch.full((n,), t).double())
    steps = Steps(at.x_t, at.dx_t, at.t, torch.full_like(at.t, s), None)
    method: Any = block.method
    target = method.target(exact.mean_velocity, steps, exact.mean_velocity)
    design = torch.cat([at.x_t, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    fitted = torch.linalg.lstsq(design, target).solution
    probes = torch.cat([torch.eye(2), torch.zeros(1, 2)]).double()
    u = exact.mean_velocity(probes, torch.tensor([[t, s]]).double().expand(3, 2))
    spread = float((target - design @ fitted).std())
    assert spread > 0.1  # there is something to average
    torch.testing.assert_close(fitted[:2], u[:2] - u[2], atol=0.03, rtol=0)
    torch.testing.assert_close(fitted[2], u[2], atol=0.03, rtol=0)


def test_the_halves_of_a_semigroup_are_not_of_the_network_that_learns() -> None:
    """Own halves hold a network at u = 0, where it begins and where the rule is right too."""

    def learning(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        raise AssertionError("the target asked the network that learns")

    def average(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return x * t[:, :1] + t[:, 1:]

    x, t, s = torch.randn(5, 3), torch.full((5,), 0.8), torch.full((5,), 0.2)
    steps = Steps(x, x, t, s, None)
    first = 0.8 * x + 0.5
    second = 0.5 * (x - 0.3 * first) + 0.2
    target = FlowMapConfig(rule="semigroup").create().target(learning, steps, average)
    torch.testing.assert_close(target, (first + second) / 2)


class Net(nn.Module):
    """A small network on points of the plane, of two times."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2)
        )

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return self.net(torch.cat([x, t], dim=1))


@pytest.mark.slow
@rules
@pytest.mark.parametrize("n_blocks", [1, 2])
def test_training_ends_near_the_closed_form_at_one_evaluation_of_each_block(
    name: str, n_blocks: int
) -> None:
    mean = torch.tensor([0.8, -0.5])
    cov = torch.tensor([[0.30, 0.12], [0.12, 0.15]])
    torch.manual_seed(0)
    x = mean + torch.randn(4000, 2) @ torch.linalg.cholesky(cov).mT
    schedule = OUSchedule((0.2,) * (n_blocks - 1))
    numbers = range(1, n_blocks + 1)
    config: MeanVelocityConfig = RULES[name]
    chain = FlowChain([FlowBlock(Net(), schedule.step(n), method=config) for n in numbers])
    result = fit(chain, x, steps=400, batch_size=256, learning_rate=5e-3, ema_decay=0.99)
    assert bool(torch.isfinite(result.losses).all())

    z = torch.randn(500, 2)
    expected = z.double()
    moments = [(mean.double(), cov.double())]
    for n in numbers[:-1]:
        moments.append(push_gaussian(*moments[-1], schedule.step(n)))
    for n in reversed(numbers):
        exact = GaussianBlockVelocity(*moments[n - 1], schedule.step(n))
        expected = exact.flow_map(expected, torch.ones(500).double(), torch.zeros(500).double())
    with torch.no_grad():
        found = chain.sample(z, solver=SolverSpec("euler", 1))
        euler = z
        for n in reversed(numbers):
            euler = euler - chain.block(n).velocity(euler, torch.ones(500), None)
    assert found.nfe == n_blocks
    error, of_euler = (float((x - expected).square().mean().sqrt()) for x in (found.x, euler))
    # A step of the velocity at the noise ends at the mean: the error is the spread of the data.
    assert error < 0.25 < 0.35 < of_euler
