"""ODE solvers by name, and the integration of one velocity field with its evaluations counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow.choices import SOLVERS
from lfm_policy.flow.solvers.adaptive import EVALUATIONS, integrate_dopri5
from lfm_policy.flow.solvers.fixed_step import (
    StepFunction,
    euler_step,
    heun_step,
    integrate_fixed,
    midpoint_step,
)
from lfm_policy.flow.solvers.velocity import CountedVelocity, Network, Velocity


@dataclass(frozen=True)
class SolverMethod:
    """A solver: ``step`` with its ``evaluations`` per step; both None when it is adaptive.

    Attributes:
        step: of a velocity; None also where only one method can make the steps.
        evaluations: of the network in a step.
        method: the only method that has it; empty: it integrates the velocity of any.
        random: whether steps draw noise.
    """

    step: StepFunction | None
    evaluations: int | None
    method: str = ""
    random: bool = False


EULER = SolverMethod(euler_step, 1)
MIDPOINT = SolverMethod(midpoint_step, 2)
HEUN = SolverMethod(heun_step, 2)
DOPRI5 = SolverMethod(None, None)
DDPM = SolverMethod(None, 1, method="diffusion", random=True)
DDIM = SolverMethod(None, 1, method="diffusion")
DPM_SOLVER = SolverMethod(None, 1, method="diffusion")


@dataclass(frozen=True)
class SolverSpec:
    """How to integrate one block.

    Attributes:
        name: ``euler``, ``midpoint``, ``heun`` (equal steps) or ``dopri5`` (adaptive); of diffusion
            models also ``ddpm``, ``ddim`` or ``dpmsolver++``.
        n_steps: number of steps per block. dopri5 chooses its own; there it is the number of
            equal segments in which a path is reported.
        rtol: relative tolerance, dopri5 only.
        atol: absolute tolerance, dopri5 only.
        times: where the steps of a fixed-step solver end between t = 1 and t = 0, decreasing,
            ``n_steps`` - 1 of them; empty: equal steps.
        chosen: where the steps of dopri5 end, in the same way, once they are chosen: see
            `with_fixed_times`; empty: it chooses them.

    Raises:
        InputError: the name is unknown, ``n_steps`` is below 1, a tolerance is not a finite
            positive number, or the times do not fit.
    """

    name: str = "euler"
    n_steps: int = 1
    rtol: float = 1e-4
    atol: float = 1e-4
    times: tuple[float, ...] = ()
    chosen: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check every field."""
        SOLVERS.get(self.name)
        if not isinstance(self.n_steps, int) or self.n_steps < 1:
            raise InputError(
                f"solver {self.name}: n_steps is {self.n_steps!r}; expected a whole number, "
                "at least 1"
            )
        for key in ("rtol", "atol"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"solver {self.name}: {key} is {value}; expected a number above 0")
        object.__setattr__(self, "times", tuple(float(time) for time in self.times))
        has_times = SOLVERS.get(self.name).step is not None
        if self.times and (not has_times or len(self.times) != self.n_steps - 1):
            raise InputError(
                f"solver {self.name}: {len(self.times)} times between the ends were given for "
                f"{self.n_steps} steps; expected {self.n_steps - 1}, and a solver of fixed steps"
            )
        check_step_times(self.times, f"solver {self.name}: times")

    @property
    def evaluations(self) -> int | None:
        """Velocity evaluations per step; None for an adaptive method."""
        return SOLVERS.get(self.name).evaluations

    @property
    def nfe(self) -> int | None:
        """Velocity evaluations per block; None for an adaptive method."""
        if self.evaluations is not None:
            return self.n_steps * self.evaluations
        return (len(self.chosen) + 1) * EVALUATIONS + 1 if self.chosen else None


def check_step_times(times: Sequence[float], label: str) -> None:
    """Check that times between the ends of a block lie inside (0, 1) and decrease.

    Raises:
        InputError: they do not; ``label`` says what they are.
    """
    ends = (1.0, *times, 0.0)
    if not all(later < earlier for earlier, later in pairwise(ends)):
        raise InputError(
            f"{label} are {list(times)}; expected numbers between 1 and 0, each below the last"
        )


class OdeResult(NamedTuple):
    """End state (B, *chunk_shape), evaluations used, and the path if it was asked for.

    ``path`` is (n_steps + 1, B, *chunk_shape), one state per step and the first one.
    """

    x: Tensor
    nfe: int
    path: Tensor | None


def integrate(
    velocity: Velocity,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    t_start: float,
    t_end: float,
    solver: SolverSpec,
    return_path: bool = False,
) -> OdeResult:
    """Integrate dx/dt = velocity(x, t, cond) from ``t_start`` to ``t_end`` (either direction).

    Gradients flow through all steps; call it under ``torch.no_grad()`` where none are wanted.

    Args:
        velocity: the field.
        x: state at ``t_start``, shape (B, *chunk_shape).
        cond: encoded observations, shape (B, cond_dim), passed on as they are, or None.
        t_start: initial time.
        t_end: final time.
        solver: method and steps.
        return_path: whether to return the intermediate states too.

    Raises:
        InputError: the solver makes the steps of one method, and integrates no velocity.
        FloatingPointError: dopri5 met a velocity that is not finite or too stiff.
    """
    check_integrates(solver.name)
    step = SOLVERS.get(solver.name).step
    if step is not None:
        return integrate_steps(
            step,
            velocity,
            x,
            cond,
            t_start=t_start,
            t_end=t_end,
            solver=solver,
            return_path=return_path,
        )
    counted = CountedVelocity(velocity)
    states = integrate_dopri5(
        counted,
        x,
        cond,
        t_start=t_start,
        t_end=t_end,
        rtol=solver.rtol,
        atol=solver.atol,
        n_segments=solver.n_steps if return_path else 1,
        inner=_inner_times(solver.chosen, t_start, t_end),
    )
    return OdeResult(states[-1], counted.nfe, torch.stack(states) if return_path else None)


def check_integrates(solver: str, method: str = "") -> None:
    """Check that a solver is for the velocities of any method, or one of ``method``'s own.

    Raises:
        InputError: it is another method's.
    """
    owner = SOLVERS.get(solver).method
    if owner and owner != method:
        others = [name for name, other in SOLVERS.items() if other.method in ("", method)]
        raise InputError(
            f"solver {solver}: only flow.method={owner} has it; choose {', '.join(others[:-1])} or "
            f"{others[-1]}"
        )


def with_fixed_times(
    velocity: Velocity,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    t_start: float,
    t_end: float,
    solver: SolverSpec,
) -> SolverSpec:
    """Return an adaptive solver that makes the steps it would choose for ``x`` whatever it gets.

    A solver of fixed steps is returned as it is. Arguments as `integrate`, over a whole block.

    Raises:
        FloatingPointError: as `integrate`.
    """
    if solver.nfe is not None:
        return solver
    accepted: list[float] = []
    integrate_dopri5(
        velocity,
        x,
        cond,
        t_start=t_start,
        t_end=t_end,
        rtol=solver.rtol,
        atol=solver.atol,
        n_segments=1,
        accepted=accepted,
    )
    return replace(solver, chosen=tuple(sorted(accepted, reverse=True)) or (0.5,))


def integrate_steps(
    step: StepFunction,
    network: Network,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    t_start: float,
    t_end: float,
    solver: SolverSpec,
    return_path: bool = False,
) -> OdeResult:
    """Make the steps of a fixed-step solver with another rule for a step.

    Args:
        step: asks the network that it is given, and returns the state at the end of the step.
        network: what is asked, and counted.
        x: state at ``t_start``, shape (B, *chunk_shape).
        cond: passed on as it is.
        t_start: initial time.
        t_end: final time.
        solver: number of steps, and their times.
        return_path: whether to return the intermediate states too.
    """
    counted = CountedVelocity(network)
    states = integrate_fixed(
        step,
        counted,
        x,
        cond,
        t_start=t_start,
        t_end=t_end,
        n_steps=solver.n_steps,
        inner=_inner_times(solver.times, t_start, t_end),
        return_path=return_path,
    )
    return OdeResult(states[-1], counted.nfe, torch.stack(states) if return_path else None)


def _inner_times(times: tuple[float, ...], t_start: float, t_end: float) -> tuple[float, ...]:
    """Return the given times in the order in which an integration between two times meets them."""
    if times and {t_start, t_end} != {0.0, 1.0}:
        raise ValueError(f"given times are for a whole block, not for t = {t_start} to {t_end}")
    return times if t_start > t_end else times[::-1]
