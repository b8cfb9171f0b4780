"""ODE solvers by name, and the integration of one field."""

from lfm_policy.flow.choices import SOLVERS
from lfm_policy.flow.solvers.fixed_step import euler_step
from lfm_policy.flow.solvers.solver import (
    OdeResult,
    SolverMethod,
    SolverSpec,
    check_integrates,
    check_step_times,
    integrate,
    integrate_steps,
    with_fixed_times,
)

__all__ = [
    "SOLVERS",
    "OdeResult",
    "SolverMethod",
    "SolverSpec",
    "check_integrates",
    "check_step_times",
    "euler_step",
    "integrate",
    "integrate_steps",
    "with_fixed_times",
]
