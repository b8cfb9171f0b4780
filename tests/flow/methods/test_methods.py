"""Methods of a block: whatever networks predict, they stand for the same velocity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lfm_policy.flow import (
    INTERPOLANTS,
    METHODS,
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    OUStep,
    PointTimes,
    SolverSpec,
    Velocity,
)

MEAN = torch.tensor([0.7, -0.2], dtype=torch.float64)
COV = torch.tensor([[0.4, 0.1], [0.1, 0.2]], dtype=torch.float64)


def clean_chunk(step: OUStep) -> Velocity:
    """Return E[x_l | I_t] for Gaussian data, from the exact velocity: x - t v on straight paths."""
    exact = GaussianBlockVelocity(MEAN, COV, step)

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return x - t[:, None] * exact(x, t, cond)

    return network


@pytest.mark.parametrize("step", [OUStep(0.2), OUStep(None)])
def test_the_clean_chunk_gives_the_exact_velocity(step: OUStep) -> None:
    block = FlowBlock(clean_chunk(step), step, method="data")
    exact = GaussianBlockVelocity(MEAN, COV, step)
    x, t = torch.randn(50, 2, dtype=torch.float64), torch.linspace(0.02, 1, 50).double()
    torch.testing.assert_close(block.velocity(x, t, None), exact(x, t, None))


def test_at_the_data_the_velocity_is_finite_and_near() -> None:
    step = OUStep(None)
    block = FlowBlock(clean_chunk(step), step, method="data")
    exact = GaussianBlockVelocity(MEAN, COV, step)
    x, t = torch.randn(50, 2, dtype=torch.float64), torch.zeros(50).double()
    torch.testing.assert_close(block.velocity(x, t, None), exact(x, t, None), atol=0.15, rtol=0.1)


@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
def test_both_ends_from_a_point_and_back(interpolant: str) -> None:
    path = INTERPOLANTS.get(interpolant)
    x_l, x_r, t = torch.randn(30, 2), torch.randn(30, 2), torch.linspace(0.05, 0.95, 30)
    sample = path.interpolate(x_l, x_r, t)
    torch.testing.assert_close(path.data_end(sample.x_t, sample.dx_t, t), x_l, atol=1e-4, rtol=1e-4)
    velocity = path.velocity_towards(x_l, sample.x_t, t)
    torch.testing.assert_close(velocity, sample.dx_t, atol=1e-3, rtol=1e-3)


def test_the_loss_of_a_predicted_chunk_is_its_distance_to_the_chunk() -> None:
    x_l = torch.randn(16, 3, 2)
    block = FlowBlock(lambda x, t, cond: torch.zeros_like(x), OUStep(None), method="data")
    assert float(block.loss(x_l)) == pytest.approx(float(x_l.square().mean()))


def test_regression_sees_no_noise_at_the_noise_end() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        seen.append((x, t))
        return torch.zeros_like(x)

    times = PointTimes((1.0, 0.1))
    block = FlowBlock(network, OUStep(None), time_sampler=times, method="regression")
    x_l = torch.full((200, 3, 2), 5.0)
    block.loss(x_l)
    x, t = seen[0]
    torch.testing.assert_close(t.unique(), torch.tensor([0.1, 1.0]))
    assert torch.equal(x[t == 1], torch.zeros_like(x[t == 1]))
    # 0.9 of the chunk and 0.1 of the noise, as MIP has it.
    near = x[t < 1]
    assert float(near.mean()) == pytest.approx(4.5, abs=0.05)
    assert float(near.std()) == pytest.approx(0.1, abs=0.02)


def test_two_step_regression_is_two_evaluations_of_the_formula() -> None:
    """Predict from nothing, then predict again from 0.9 of that."""

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return 2.0 + 0.5 * x + t[:, None, None]

    block = FlowBlock(network, OUStep(None), method="regression")
    chain = FlowChain([block])
    start = torch.zeros(4, 3, 2)  # a noise scale of 0
    one = chain.sample(start, solver=SolverSpec("euler", 1)).x
    torch.testing.assert_close(one, torch.full_like(one, 3.0))
    two = chain.sample(start, solver=SolverSpec("euler", 2, times=(0.1,)))
    expected = 2.0 + 0.5 * (0.9 * 3.0) + 0.1
    torch.testing.assert_close(two.x, torch.full_like(two.x, expected))
    assert two.nfe == 2


def test_names() -> None:
    known = {"velocity", "data", "regression", "shortcut", "consistency_fm"}
    assert known | {"mean_flow", "flow_map"} <= set(METHODS.names())
