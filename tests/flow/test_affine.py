"""The closed forms against independently written formulas, Monte Carlo and the ODE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow import (
    COUPLINGS,
    INTERPOLANTS,
    FlowBlock,
    GaussianBlockVelocity,
    OUStep,
    SolverSpec,
    gaussian_network,
    integrate,
    push_gaussian,
)

MEAN = torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64)
COV = torch.tensor([[0.9, 0.3, 0.0], [0.3, 0.5, -0.1], [0.0, -0.1, 0.3]], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)
KNOWN_PAIRS = ["dependent", "shuffled", "independent"]


@pytest.mark.parametrize("gamma", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_dependent_linear_formula(gamma: float, t: float) -> None:
    """The velocity as the method's description states it, with the matrix inverse."""
    x = torch.randn(4, 3, dtype=torch.float64)
    a, b = math.exp(-gamma), math.sqrt(1 - math.exp(-2 * gamma))
    s = 1 - t + t * a
    inverse = torch.linalg.inv(s**2 * COV + (t * b) ** 2 * EYE)
    whitened = (x - s * MEAN) @ inverse
    expected = (a - 1) * (MEAN + s * whitened @ COV) + b * (t * b * whitened)
    velocity = GaussianBlockVelocity(MEAN, COV, OUStep(gamma))
    torch.testing.assert_close(velocity(x, torch.full((4,), t, dtype=torch.float64)), expected)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("coupling", KNOWN_PAIRS)
def test_free_linear_formula(t: float, coupling: str) -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    inverse = torch.linalg.inv((1 - t) ** 2 * COV + t**2 * EYE)
    expected = -MEAN + (x - (1 - t) * MEAN) @ inverse @ (-(1 - t) * COV + t * EYE)
    velocity = GaussianBlockVelocity(MEAN, COV, OUStep(None), "linear", coupling)
    torch.testing.assert_close(velocity(x, torch.full((4,), t, dtype=torch.float64)), expected)


@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
@pytest.mark.parametrize("coupling", KNOWN_PAIRS)
@pytest.mark.parametrize("step", [OUStep(0.5), OUStep(None)], ids=["step", "free"])
def test_it_is_the_regression_of_the_sampled_pairs(
    interpolant: str, coupling: str, step: OUStep
) -> None:
    """Least squares of dI_t on I_t over 100,000 pairs drawn by the block itself."""

    class At:
        def sample(self, n: int, **options: Any) -> Tensor:
            return torch.full((n,), 0.4, dtype=torch.float64)

    generator = torch.Generator().manual_seed(0)
    factor = torch.linalg.cholesky(COV)
    x_l, x_other = (
        MEAN + torch.randn(100_000, 3, generator=generator, dtype=torch.float64) @ factor.mT
        for _ in range(2)
    )
    velocity = GaussianBlockVelocity(MEAN, COV, step, interpolant, coupling)
    block = FlowBlock(velocity, step, interpolant, coupling, time_sampler=At())
    path = block.path_sample(x_l, x_other=x_other, generator=generator)
    design = torch.cat([path.x_t, torch.ones(100_000, 1, dtype=torch.float64)], dim=1)
    fit = torch.linalg.lstsq(design, path.dx_t).solution
    probes = torch.cat([EYE, torch.zeros(1, 3, dtype=torch.float64)])
    exact = velocity(probes, torch.full((4,), 0.4, dtype=torch.float64))
    torch.testing.assert_close(fit[:3], exact[:3] - exact[3], atol=0.03, rtol=0)
    torch.testing.assert_close(fit[3], exact[3], atol=0.03, rtol=0)


@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
@pytest.mark.parametrize("coupling", COUPLINGS.names())
@pytest.mark.parametrize("step", [OUStep(0.05), OUStep(0.7), OUStep(None)])
def test_the_flow_map_is_the_end_of_the_ode(interpolant: str, coupling: str, step: OUStep) -> None:
    velocity = GaussianBlockVelocity(MEAN, COV, step, interpolant, coupling)
    x = torch.randn(6, 3, dtype=torch.float64)
    solver = SolverSpec("dopri5", rtol=1e-9, atol=1e-9)
    result = integrate(velocity, x, t_start=0.0, t_end=1.0, solver=solver)
    torch.testing.assert_close(result.x, velocity.flow_map(x), atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
@pytest.mark.parametrize("step", [OUStep(0.01), OUStep(0.5), OUStep(None)])
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.0), (0.9, 0.35), (0.2, 0.7)])
def test_the_flow_map_between_two_times(interpolant: str, step: OUStep, t: float, s: float) -> None:
    velocity = GaussianBlockVelocity(MEAN, COV, step, interpolant)
    x = torch.randn(5, 3, dtype=torch.float64)
    begin, end = torch.full((5,), t).to(x), torch.full((5,), s).to(x)
    exact = SolverSpec("dopri5", rtol=1e-11, atol=1e-11)
    expected = integrate(velocity, x, t_start=t, t_end=s, solver=exact).x
    torch.testing.assert_close(velocity.flow_map(x, begin, end), expected, rtol=1e-6, atol=1e-6)
    times = torch.stack([begin, end], dim=1)
    u = velocity.mean_velocity(x, times)
    torch.testing.assert_close(x - (t - s) * u, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        velocity.mean_velocity(x, times[:, :1].expand(5, 2)), velocity(x, begin)
    )


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("step", [OUStep(0.3), OUStep(None)])
def test_optimal_transport_is_straight(step: OUStep, t: float) -> None:
    """x_r = m_r + T (x_l - m_l) with T = C_r^(1/2) C_l^(-1/2), whose lines are the flow."""
    velocity = GaussianBlockVelocity(MEAN, COV, step, "linear", "optimal")
    mean, cov = push_gaussian(MEAN, COV, step)

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values.sqrt()) @ vectors.mT

    x_l = torch.randn(5, 3, dtype=torch.float64)
    x_r = mean + (x_l - MEAN) @ torch.linalg.inv(root(COV)) @ root(cov)
    times = torch.full((5,), t, dtype=torch.float64)
    torch.testing.assert_close(velocity((1 - t) * x_l + t * x_r, times), x_r - x_l)
    torch.testing.assert_close(velocity.flow_map(x_l), x_r)


def test_a_coupling_of_a_plugin_has_no_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COUPLINGS._entries, "mine", COUPLINGS.get("dependent"))
    with pytest.raises(InputError, match="'mine' has no closed form"):
        GaussianBlockVelocity(MEAN, COV, OUStep(0.1), "linear", "mine")


@pytest.mark.parametrize("coupling", ["optimal", "mine"])
def test_nobody_knows_the_best_answer_to_pairs_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, coupling: str
) -> None:
    monkeypatch.setitem(COUPLINGS._entries, "mine", COUPLINGS.get("dependent"))
    block = FlowBlock(lambda x, t, cond: x, OUStep(0.1), coupling=coupling)
    assert gaussian_network(block, MEAN, COV, coupling=coupling) is None
    assert gaussian_network(block, MEAN, COV) is not None


def test_any_chunk_shape_is_flattened() -> None:
    velocity = GaussianBlockVelocity(torch.zeros(6), torch.eye(6) * 0.5, OUStep(0.2))
    x, t = torch.randn(4, 3, 2), torch.rand(4)
    assert torch.equal(velocity(x, t), velocity(x.flatten(1), t).reshape(4, 3, 2))
    assert torch.equal(velocity.flow_map(x), velocity.flow_map(x.flatten(1)).reshape(4, 3, 2))


@pytest.mark.parametrize(
    ("mean", "cov"),
    [
        (torch.zeros(2), torch.eye(3)),
        (torch.zeros(1, 2), torch.eye(2)),
        (torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])),
        (torch.zeros(2), torch.diag(torch.tensor([1.0, 0.0]))),
    ],
)
def test_bad_moments(mean: Tensor, cov: Tensor) -> None:
    with pytest.raises(InputError, match="cov"):
        GaussianBlockVelocity(mean, cov, OUStep(0.1))


def _chi2(mean: Tensor, cov: Tensor) -> float:
    """chi^2(N(mean, cov) || N(0, I)) = integral p^2/q - 1, for eigenvalues of cov below 2.

    = |S (2I - S)|^(-1/2) exp(m^T (2I - S)^-1 m) - 1.
    """
    rest = 2 * torch.eye(mean.numel(), dtype=mean.dtype) - cov
    exponent = mean @ torch.linalg.solve(rest, mean)
    return (torch.exp(exponent) / torch.sqrt(torch.det(cov @ rest))).item() - 1


@pytest.mark.parametrize(("m", "s"), [(0.0, 0.3), (0.8, 1.0), (-0.5, 1.6)])
def test_chi2_formula_against_quadrature(m: float, s: float) -> None:
    x = torch.linspace(-60.0, 60.0, 400_001, dtype=torch.float64)
    log_p = -((x - m) ** 2) / (2 * s) - 0.5 * math.log(2 * math.pi * s)
    log_q = -(x**2) / 2 - 0.5 * math.log(2 * math.pi)
    integral = torch.trapezoid(torch.exp(2 * log_p - log_q), x).item()
    chi2 = _chi2(MEAN.new_tensor([m]), MEAN.new_tensor([[s]]))
    assert chi2 == pytest.approx(integral - 1, rel=1e-8)


@pytest.mark.parametrize("dimension", [1, 2, 5])
@pytest.mark.parametrize("step_sizes", [(0.1,), (0.3, 0.45, 0.675), (0.025,) * 8])
@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
def test_chi2_contracts_along_the_pushed_chain(
    gaussian_chain: Callable[..., Any],
    push_moments: Callable[..., tuple[Tensor, Tensor]],
    dimension: int,
    step_sizes: tuple[float, ...],
    interpolant: str,
) -> None:
    """chi^2(p_n) <= exp(-2 (gamma_1 + ... + gamma_n)) chi^2(p_0), p_n as the blocks push it."""
    made = gaussian_chain(dimension, step_sizes, interpolant)
    solver = SolverSpec("dopri5", rtol=1e-8, atol=1e-8)
    mean, cov = made.marginals[0]
    at_data = _chi2(mean, cov)
    elapsed = 0.0
    for n, gamma in enumerate(step_sizes, start=1):

        def push(x: Tensor, n: int = n) -> Tensor:
            return made.chain.push_forward(x, solver=solver, first=n, last=n).x

        mean, cov = push_moments(push, mean, cov)
        elapsed += gamma
        assert _chi2(mean, cov) <= math.exp(-2 * elapsed) * at_data * (1 + 1e-5)
    mean, cov = push_moments(
        lambda x: made.chain.push_forward(x, solver=solver).x, *made.marginals[0]
    )
    assert _chi2(mean, cov) == pytest.approx(0.0, abs=1e-6)


def test_push_gaussian_composes_to_the_marginal() -> None:
    mean, cov = push_gaussian(*push_gaussian(MEAN, COV, OUStep(0.2)), OUStep(0.3))
    direct = push_gaussian(MEAN, COV, OUStep(0.5))
    torch.testing.assert_close((mean, cov), direct)
    torch.testing.assert_close(push_gaussian(MEAN, COV, OUStep(None)), (0 * MEAN, EYE))
