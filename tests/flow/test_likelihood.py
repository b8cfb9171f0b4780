from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from lfm_policy.flow import (
    INTERPOLANTS,
    FlowBlock,
    FlowChain,
    OUSchedule,
    OUStep,
    SolverSpec,
    log_prob,
    velocity_and_divergence,
)

EXACT = SolverSpec("dopri5", rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("step_sizes", [(), (0.1,), (0.3, 0.45, 0.675)], ids=str)
@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [(EXACT, 2e-7), (SolverSpec("midpoint", 32), 2e-3), (SolverSpec("heun", 32), 4e-3)],
    ids=["dopri5", "midpoint", "heun"],
)
def test_gaussian_log_density(
    gaussian_chain: Callable[..., Any],
    dimension: int,
    step_sizes: tuple[float, ...],
    interpolant: str,
    solver: SolverSpec,
    tolerance: float,
) -> None:
    made = gaussian_chain(dimension, step_sizes, interpolant)
    exact = MultivariateNormal(*made.marginals[0])
    torch.manual_seed(0)
    x = exact.sample((6,))
    result = log_prob(made.chain, x, solver=solver)
    assert result.log_prob.shape == (6,)
    assert result.log_prob.dtype == torch.float64
    torch.testing.assert_close(result.log_prob, exact.log_prob(x), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(
        result.noise, made.chain.push_forward(x, solver=solver).x, atol=1e-6, rtol=1e-6
    )


def test_single_precision_and_chunk_shape(gaussian_chain: Callable[..., Any]) -> None:
    made = gaussian_chain(6, (0.3,))
    exact = MultivariateNormal(*made.marginals[0])
    x = torch.randn(5, 3, 2)
    expected = exact.log_prob(x.double().flatten(1))
    made.chain.blocks[0].velocity, made.chain.blocks[1].velocity = (
        lambda x, t, cond, v=block.velocity: v(x.double(), t.double()).float()
        for block in made.chain.blocks
    )
    result = log_prob(made.chain, x, solver=SolverSpec("dopri5", rtol=1e-6, atol=1e-6))
    assert result.log_prob.dtype == torch.float32
    assert result.noise.shape == (5, 3, 2)
    torch.testing.assert_close(result.log_prob, expected.float(), atol=1e-3, rtol=1e-4)


class _Net(nn.Module):
    """A small network on chunks (2, 2), with a condition of 3 entries or none."""

    def __init__(self, cond_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4 + 1 + cond_dim, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        parts = [x.flatten(1), t[:, None], *([] if cond is None else [cond])]
        return self.net(torch.cat(parts, dim=1)).reshape(x.shape)


@pytest.mark.parametrize("cond_dim", [0, 3])
def test_divergence_is_the_trace_of_the_jacobian(cond_dim: int) -> None:
    net = _Net(cond_dim).double()
    x, t = torch.randn(5, 2, 2, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    cond = torch.randn(5, cond_dim, dtype=torch.float64) if cond_dim else None
    v, divergence = velocity_and_divergence(net, x, t, cond)
    torch.testing.assert_close(v, net(x, t, cond).detach())
    for i in range(5):
        one = None if cond is None else cond[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda y, i=i, one=one: net(y.view(1, 2, 2), t[i : i + 1], one).flatten(),
            x[i].flatten(),
        )
        torch.testing.assert_close(divergence[i], torch.trace(jacobian))
    assert not v.requires_grad and not divergence.requires_grad


def test_velocities_that_ignore_x_have_no_divergence() -> None:
    shift = nn.Parameter(torch.ones(2))
    for velocity in (
        lambda x, t, cond: torch.ones_like(x),
        lambda x, t, cond: shift.expand(x.shape[0], 2),
    ):
        v, divergence = velocity_and_divergence(velocity, torch.randn(3, 2), torch.zeros(3), None)
        assert torch.equal(v, torch.ones(3, 2))
        assert torch.equal(divergence, torch.zeros(3))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_it_works_in_every_gradient_mode(mode: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    schedule = OUSchedule((0.2,))
    chain = FlowChain([FlowBlock(_Net(3), schedule.step(n)) for n in (1, 2)])
    x, cond = torch.randn(4, 2, 2), torch.randn(4, 3)
    expected = log_prob(chain, x, cond, solver=SolverSpec("heun", 4))
    with mode():
        result = log_prob(chain, x * 1, cond * 1, solver=SolverSpec("heun", 4))
    assert not result.log_prob.requires_grad
    assert torch.equal(result.log_prob, expected.log_prob)
    assert result.nfe == 2 * 4 * 2


def test_density_integrates_to_one() -> None:
    """Quadrature of exp(log p) of an arbitrary network over a wide grid of the plane."""
    torch.manual_seed(1)

    class Plane(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))

        def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            return self.net(torch.cat([x, t[:, None]], dim=1))

    schedule = OUSchedule((0.2,))
    chain = FlowChain([FlowBlock(Plane().double(), schedule.step(n)) for n in (1, 2)])
    axis = torch.linspace(-7.0, 7.0, 101, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    density = log_prob(chain, grid, solver=SolverSpec("heun", 20)).log_prob.exp()
    assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1.0, abs=1e-3)


def test_the_last_block_has_to_be_free() -> None:
    chain = FlowChain([FlowBlock(lambda x, t, cond: x, OUStep(0.1))])
    with pytest.raises(ValueError, match="not free"):
        log_prob(chain, torch.zeros(2, 2), solver=SolverSpec())
