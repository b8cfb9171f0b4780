"""What `lfm_policy.flow` offers under its own name."""

from __future__ import annotations

from lfm_policy.flow.affine import GaussianBlockVelocity, push_gaussian
from lfm_policy.flow.block import FlowBlock
from lfm_policy.flow.chain import FlowChain, PushResult, SampleResult
from lfm_policy.flow.choices import COUPLINGS, INTERPOLANTS, METHODS, SOLVERS, TIME_SAMPLERS
from lfm_policy.flow.fitting import FitResult, fit
from lfm_policy.flow.likelihood import LogProbResult, log_prob, velocity_and_divergence
from lfm_policy.flow.methods import (
    BlockPath,
    CleanChunkMethod,
    Method,
    OdeMethod,
    RegressionMethod,
    VelocityMethod,
)
from lfm_policy.flow.paths.coupling import Coupling
from lfm_policy.flow.paths.interpolant import (
    Coefficients,
    Interpolant,
    LinearInterpolant,
    PathSample,
    TrigonometricInterpolant,
)
from lfm_policy.flow.paths.schedule import OUSchedule, OUStep, geometric_step_sizes
from lfm_policy.flow.paths.time_sampling import (
    BetaTime,
    PointTimes,
    TimeSampler,
    UniformTime,
)
from lfm_policy.flow.solvers import (
    OdeResult,
    SolverMethod,
    SolverSpec,
    check_step_times,
    integrate,
)
from lfm_policy.flow.velocity import Network, Velocity

__all__ = [
    "COUPLINGS",
    "INTERPOLANTS",
    "METHODS",
    "SOLVERS",
    "TIME_SAMPLERS",
    "BetaTime",
    "BlockPath",
    "CleanChunkMethod",
    "Coefficients",
    "Coupling",
    "FitResult",
    "FlowBlock",
    "FlowChain",
    "GaussianBlockVelocity",
    "Interpolant",
    "LinearInterpolant",
    "LogProbResult",
    "Method",
    "Network",
    "OUSchedule",
    "OUStep",
    "OdeMethod",
    "OdeResult",
    "PathSample",
    "PointTimes",
    "PushResult",
    "RegressionMethod",
    "SampleResult",
    "SolverMethod",
    "SolverSpec",
    "TimeSampler",
    "TrigonometricInterpolant",
    "UniformTime",
    "Velocity",
    "VelocityMethod",
    "check_step_times",
    "fit",
    "geometric_step_sizes",
    "integrate",
    "log_prob",
    "push_gaussian",
    "velocity_and_divergence",
]
