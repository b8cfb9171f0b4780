from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow import SOLVERS, SolverSpec, integrate

ODE_SOLVERS = [name for name, solver in SOLVERS.items() if not solver.method]

FIXED = ("euler", "midpoint", "heun")


def _field(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
    """dx/dt = x cos t, so x(t) = x(0) exp(sin t)."""
    return x * torch.cos(t).view(-1, *(1,) * (x.ndim - 1))


@pytest.mark.parametrize("shape", [(), (3,), (4, 2)])
@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [
        (SolverSpec("euler", 1000), 1e-3),
        (SolverSpec("midpoint", 100), 1e-4),
        (SolverSpec("heun", 100), 1e-4),
        (SolverSpec("dopri5", rtol=1e-9, atol=1e-9), 1e-7),
    ],
    ids=lambda value: value.name if isinstance(value, SolverSpec) else "",
)
@pytest.mark.parametrize("backward", [False, True])
def test_known_solution(
    solver: SolverSpec, tolerance: float, shape: tuple[int, ...], backward: bool
) -> None:
    start = torch.randn(5, *shape, dtype=torch.float64)
    end = start * math.exp(math.sin(1.0))
    if backward:
        start, end = end, start
    t_start, t_end = (1.0, 0.0) if backward else (0.0, 1.0)
    result = integrate(_field, start, t_start=t_start, t_end=t_end, solver=solver)
    torch.testing.assert_close(result.x, end, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_convergence(name: str, order: int) -> None:
    x = torch.ones(1, 1, dtype=torch.float64)
    exact = math.exp(math.sin(1.0))
    errors = [
        abs(integrate(_field, x, t_start=0, t_end=1, solver=SolverSpec(name, n)).x.item() - exact)
        for n in (64, 128)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("name", FIXED)
def test_one_step_by_hand(name: str) -> None:
    """One step of length 1 of dx/dt = -0.2 x + t from x(0) = 1."""

    def field(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return -0.2 * x + t[:, None]

    by_hand = {
        "euler": 1 - 0.2,
        "midpoint": 1 + (-0.2 * (1 - 0.1) + 0.5),
        "heun": 1 + 0.5 * (-0.2 + (-0.2 * (1 - 0.2) + 1)),
    }[name]
    x = torch.ones(1, 1, dtype=torch.float64)
    result = integrate(field, x, t_start=0, t_end=1, solver=SolverSpec(name))
    assert result.x.item() == pytest.approx(by_hand)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_evaluations_of_fixed_steps(name: str, n_steps: int) -> None:
    calls = []

    def field(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        calls.append(t)
        return _field(x, t, cond)

    spec = SolverSpec(name, n_steps)
    result = integrate(field, torch.randn(3, 2), t_start=1.0, t_end=0.0, solver=spec)
    assert result.nfe == len(calls) == spec.nfe == n_steps * (spec.evaluations or 0)
    assert all(t.shape == (3,) and t.dtype == torch.float32 for t in calls)
    assert all(t.min() >= 0.0 and t.max() <= 1.0 for t in calls)


@pytest.mark.parametrize("backward", [False, True])
def test_dopri5_counts_and_stays_inside_the_block(backward: bool) -> None:
    calls = []

    def field(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        calls.append(t)
        return 1e-3 * _field(x, t, cond)  # slow: the first step would be far too long

    ends = {"t_start": 1.0, "t_end": 0.0} if backward else {"t_start": 0.0, "t_end": 1.0}
    spec = SolverSpec("dopri5")
    result = integrate(field, torch.randn(3, 2), **ends, solver=spec)  # type: ignore[arg-type]
    assert spec.nfe is None and spec.evaluations is None
    assert result.nfe == len(calls) > 6
    assert all(t.shape == (3,) and t.min() >= 0.0 and t.max() <= 1.0 for t in calls)


def test_tighter_tolerances_cost_more_and_err_less() -> None:
    x, exact = torch.ones(1, 1, dtype=torch.float64), math.exp(math.sin(1.0))
    results = [
        integrate(_field, x, t_start=0, t_end=1, solver=SolverSpec("dopri5", rtol=tol, atol=tol))
        for tol in (1e-3, 1e-6, 1e-10)
    ]
    errors = [abs(r.x.item() - exact) for r in results]
    assert results[0].nfe < results[1].nfe < results[2].nfe
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-9


@pytest.mark.parametrize("name", ODE_SOLVERS)
def test_path(name: str) -> None:
    x = torch.randn(5, 4, 2, dtype=torch.float64)
    spec = SolverSpec(name, 4, rtol=1e-8, atol=1e-8)
    result = integrate(_field, x, t_start=1.0, t_end=0.0, solver=spec, return_path=True)
    assert result.path is not None
    assert result.path.shape == (5, 5, 4, 2)
    assert torch.equal(result.path[0], x)
    assert torch.equal(result.path[-1], result.x)
    at_half = x * math.exp(math.sin(0.5) - math.sin(1.0))
    torch.testing.assert_close(result.path[2], at_half, atol=0.2, rtol=0)
    without = integrate(_field, x, t_start=1.0, t_end=0.0, solver=spec)
    assert without.path is None
    assert without.nfe == result.nfe
    torch.testing.assert_close(without.x, result.x)


@pytest.mark.parametrize("name", ODE_SOLVERS)
def test_gradients_flow_through_the_steps(name: str) -> None:
    x = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    spec = SolverSpec(name, 200, rtol=1e-8, atol=1e-8)
    integrate(_field, x, t_start=0.0, t_end=1.0, solver=spec).x.sum().backward()
    torch.testing.assert_close(
        x.grad, torch.full_like(x, math.exp(math.sin(1.0))).detach(), atol=1e-2, rtol=0
    )


@pytest.mark.parametrize("name", ODE_SOLVERS)
def test_condition_is_passed_on(name: str) -> None:
    cond = torch.tensor([[1.0], [2.0]])

    def field(x: Tensor, t: Tensor, c: Tensor | None) -> Tensor:
        assert c is cond
        return c.expand_as(x)

    with torch.inference_mode():
        result = integrate(
            field, torch.zeros(2, 3), cond, t_start=0, t_end=1, solver=SolverSpec(name, 3)
        )
    torch.testing.assert_close(result.x, cond.expand(2, 3))


def test_a_velocity_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match="not finite or too stiff"):
        integrate(
            lambda x, t, cond: x * float("nan"),
            torch.ones(2, 2),
            t_start=0,
            t_end=1,
            solver=SolverSpec("dopri5"),
        )


def test_an_assertion_of_the_velocity_is_not_renamed() -> None:
    def field(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"):
        integrate(field, torch.ones(2, 2), t_start=0, t_end=1, solver=SolverSpec("dopri5"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"name": "eulr"}, "did you mean 'euler'"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"n_steps": 2.5}, "n_steps is 2.5"),
        ({"name": "dopri5", "rtol": 0.0}, "rtol is 0.0"),
        ({"name": "dopri5", "atol": float("nan")}, "atol is nan"),
    ],
)
def test_bad_specifications(options: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        SolverSpec(**options)  # type: ignore[arg-type]


def test_given_times_by_hand() -> None:
    """dx/dt = x t by Euler from t = 1 over 0.4 to 0, and the same way back."""
    solver = SolverSpec("euler", 2, times=(0.4,))
    x = torch.ones(3, 2, dtype=torch.float64)
    down = integrate(lambda x, t, cond: x * t[:, None], x, t_start=1, t_end=0, solver=solver)
    torch.testing.assert_close(down.x, x * (1 - 0.6 * 1) * (1 - 0.4 * 0.4))
    up = integrate(lambda x, t, cond: x * t[:, None], x, t_start=0, t_end=1, solver=solver)
    torch.testing.assert_close(up.x, x * (1 + 0.4 * 0) * (1 + 0.6 * 0.4))
    assert down.nfe == up.nfe == 2


def test_given_times_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="1 times .* for 3 steps; expected 2"):
        SolverSpec("euler", 3, times=(0.5,))
    with pytest.raises(InputError, match="and a solver of fixed steps"):
        SolverSpec("dopri5", 2, times=(0.5,))
    with pytest.raises(InputError, match="expected numbers between 1 and 0"):
        SolverSpec("euler", 3, times=(0.5, 0.7))
    with pytest.raises(ValueError, match="for a whole block"):
        integrate(
            lambda x, t, cond: x,
            torch.ones(1, 1),
            t_start=0.5,
            t_end=0,
            solver=SolverSpec("euler", 2, times=(0.4,)),
        )


def test_gradients_after_a_first_use_in_inference_mode() -> None:
    # In a process of its own: what matters is when torchdiffeq is imported, which happens once.
    code = """
import torch
from lfm_policy.flow import SolverSpec, integrate
def run(x):
    field = lambda x, t, cond: -x
    return integrate(field, x, t_start=0.0, t_end=1.0, solver=SolverSpec("dopri5")).x
with torch.inference_mode():
    run(torch.ones(2, 1, dtype=torch.float64))
x = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
run(x).sum().backward()
print(float(x.grad[0]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == pytest.approx(math.exp(-1), rel=1e-3)
