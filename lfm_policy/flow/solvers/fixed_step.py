"""Explicit Runge-Kutta methods with a given number of steps, equal ones or not.

No control flow depends on tensor values and time enters as a full (B,) tensor, so a whole sampler
can be traced and exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from torch import Tensor

from lfm_policy.flow.solvers.velocity import Velocity, time_like

StepFunction: TypeAlias = Callable[[Velocity, Tensor, Tensor | None, float, float], Tensor]
"""``step(velocity, x, cond, t, t_next)`` returns the state at ``t_next``."""


def euler_step(
    velocity: Velocity, x: Tensor, cond: Tensor | None, t: float, t_next: float
) -> Tensor:
    """First order, 1 evaluation: x + h v(x, t)."""
    return x + (t_next - t) * velocity(x, time_like(x, t), cond)


def midpoint_step(
    velocity: Velocity, x: Tensor, cond: Tensor | None, t: float, t_next: float
) -> Tensor:
    """Second order, 2 evaluations: x + h v(x + h/2 v(x, t), t + h/2)."""
    h = t_next - t
    middle = x + (h / 2) * velocity(x, time_like(x, t), cond)
    return x + h * velocity(middle, time_like(x, t + h / 2), cond)


def heun_step(
    velocity: Velocity, x: Tensor, cond: Tensor | None, t: float, t_next: float
) -> Tensor:
    """Second order, 2 evaluations: x + h/2 (k_1 + k_2), k_2 = v(x + h k_1, t + h)."""
    h = t_next - t
    k_1 = velocity(x, time_like(x, t), cond)
    k_2 = velocity(x + h * k_1, time_like(x, t_next), cond)
    return x + (h / 2) * (k_1 + k_2)


def integrate_fixed(
    step: StepFunction,
    velocity: Velocity,
    x: Tensor,
    cond: Tensor | None,
    *,
    t_start: float,
    t_end: float,
    n_steps: int,
    inner: Sequence[float] = (),
    return_path: bool = False,
) -> list[Tensor]:
    """Return the last state; with ``return_path`` all ``n_steps`` + 1 states, ``x`` first.

    ``inner`` are the times where steps end before ``t_end``, if they are not equal.
    """
    if not inner:
        inner = [t_start + (t_end - t_start) * k / n_steps for k in range(1, n_steps)]
    # Both ends exact: a network must not see t = -1e-17 or 1 + 1e-16.
    times = [t_start, *inner, t_end]
    path = [x]
    for t, t_next in pairwise(times):
        x = step(velocity, x, cond, t, t_next)
        path.append(x)
        if not return_path:
            del path[0]
    return path
