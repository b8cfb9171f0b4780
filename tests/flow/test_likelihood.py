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

pytestmark = pytest.mark.slow

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
    made.chain.blocks[0].network, made.chain.blocks[1].network = (
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


@pytest.mark.parametrize(
    "solver", [SolverSpec("heun", 5), SolverSpec("dopri5")], ids=lambda s: s.name
)
@pytest.mark.parametrize("n_probes", [None, 2])
def test_batches_of_any_size_have_the_same_likelihood(
    gaussian_chain: Callable[..., Any], solver: SolverSpec, n_probes: int | None
) -> None:
    made = gaussian_chain(3, (0.1, 0.3))
    x = torch.randn(300, 3, dtype=torch.float64)
    results = []
    for size in (300, 64, 7):
        generator = torch.Generator().manual_seed(0)
        results.append(
            log_prob(
                made.chain,
                x,
                solver=solver,
                n_probes=n_probes,
                generator=generator,
                batch_size=size,
            )
        )
    for other in results[1:]:
        torch.testing.assert_close(other.log_prob, results[0].log_prob, atol=1e-11, rtol=1e-11)
        torch.testing.assert_close(other.noise, results[0].noise, atol=1e-11, rtol=1e-11)
        assert other.nfe == results[0].nfe
    for name in ("n_probes", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            log_prob(made.chain, x, solver=solver, **{name: 0})


def test_random_signs_estimate_the_divergence_without_bias(
    gaussian_chain: Callable[..., Any],
) -> None:
    """Its mean over many signs is the trace; signs see no diagonal matrix's entries wrongly."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 4, dtype=torch.float64)
    t = torch.zeros(2, dtype=torch.float64)
    signs = (2 * torch.randint(2, (2, 20_000, 4), generator=generator) - 1).double()
    _, found = velocity_and_divergence(lambda x, t, cond: x @ matrix.T, x, t, None, signs)
    _, exact = velocity_and_divergence(lambda x, t, cond: x @ matrix.T, x, t, None)
    torch.testing.assert_close(exact, matrix.trace().expand(2))
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0)
    diagonal = matrix.diagonal().diag()
    _, found = velocity_and_divergence(lambda x, t, cond: x @ diagonal, x, t, None, signs[:, :1])
    torch.testing.assert_close(found, diagonal.trace().expand(2))
    # In one dimension a single sign is exact.
    made = gaussian_chain(1, (0.3,))
    points = torch.randn(5, 1, dtype=torch.float64)
    solver = SolverSpec("heun", 4)
    exact_result = log_prob(made.chain, points, solver=solver)
    estimated = log_prob(made.chain, points, solver=solver, n_probes=1)
    torch.testing.assert_close(estimated.log_prob, exact_result.log_prob)
