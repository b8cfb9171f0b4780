"""The mathematics of Local Flow Matching; it knows nothing of robots, files or configurations.

A chain of N blocks carries data (t = 0 of block 1) to N(0, I) (t = 1 of block N). Shapes are
x (B, *chunk_shape) for any chunk shape, t (B,), cond (B, cond_dim) or None.

    paths          OU schedule, interpolants, couplings, times of a block
    methods        rules for a block, one file each         block          network, path and method
    solvers        one ODE, evaluations counted             chain          sampling, push-forward
    likelihood     log p(x | O)                             affine         closed forms to verify by
    fitting        trains a chain on tensors                ema            EMA of the weights
    guidance       answers without and with O
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lfm_policy.flow.affine import (
        GaussianBlockVelocity,
        gaussian_network,
        push_gaussian,
    )
    from lfm_policy.flow.block import FlowBlock
    from lfm_policy.flow.chain import FlowChain, PushResult, SampleResult
    from lfm_policy.flow.choices import COUPLINGS, INTERPOLANTS, METHODS, SOLVERS, TIME_SAMPLERS
    from lfm_policy.flow.fitting import FitResult, fit
    from lfm_policy.flow.guidance import GuidedNetwork, OptionalCondition, guided
    from lfm_policy.flow.likelihood import LogProbResult, log_prob, velocity_and_divergence
    from lfm_policy.flow.methods import (
        BlockPath,
        CleanChunkConfig,
        CleanChunkMethod,
        ConsistencyFlowConfig,
        ConsistencyFlowMethod,
        DiffusionConfig,
        DiffusionMethod,
        ErrorConfig,
        ErrorMethod,
        FlowMapConfig,
        FlowMapMethod,
        MeanFlowConfig,
        MeanFlowMethod,
        MeanVelocityConfig,
        MeanVelocityMethod,
        Method,
        MethodConfig,
        OdeMethod,
        RegressionConfig,
        RegressionMethod,
        ShortcutConfig,
        ShortcutMethod,
        VelocityConfig,
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
    from lfm_policy.flow.paths.optimal_transport import OptimalCoupling
    from lfm_policy.flow.paths.schedule import OUSchedule, OUStep, geometric_step_sizes
    from lfm_policy.flow.paths.time_sampling import (
        BetaTime,
        NoiseEndTimes,
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
    from lfm_policy.flow.solvers.velocity import Network, Velocity

__all__ = [
    "COUPLINGS",
    "INTERPOLANTS",
    "METHODS",
    "SOLVERS",
    "TIME_SAMPLERS",
    "BetaTime",
    "BlockPath",
    "CleanChunkConfig",
    "CleanChunkMethod",
    "Coefficients",
    "ConsistencyFlowConfig",
    "ConsistencyFlowMethod",
    "Coupling",
    "DiffusionConfig",
    "DiffusionMethod",
    "ErrorConfig",
    "ErrorMethod",
    "FitResult",
    "FlowBlock",
    "FlowChain",
    "FlowMapConfig",
    "FlowMapMethod",
    "GaussianBlockVelocity",
    "GuidedNetwork",
    "Interpolant",
    "LinearInterpolant",
    "LogProbResult",
    "MeanFlowConfig",
    "MeanFlowMethod",
    "MeanVelocityConfig",
    "MeanVelocityMethod",
    "Method",
    "MethodConfig",
    "Network",
    "NoiseEndTimes",
    "OUSchedule",
    "OUStep",
    "OdeMethod",
    "OdeResult",
    "OptimalCoupling",
    "OptionalCondition",
    "PathSample",
    "PointTimes",
    "PushResult",
    "RegressionConfig",
    "RegressionMethod",
    "SampleResult",
    "ShortcutConfig",
    "ShortcutMethod",
    "SolverMethod",
    "SolverSpec",
    "TimeSampler",
    "TrigonometricInterpolant",
    "UniformTime",
    "Velocity",
    "VelocityConfig",
    "VelocityMethod",
    "check_step_times",
    "fit",
    "gaussian_network",
    "geometric_step_sizes",
    "guided",
    "integrate",
    "log_prob",
    "push_gaussian",
    "velocity_and_divergence",
]

_MODULES = (
    *("choices", "chain", "block", "fitting", "likelihood", "affine", "guidance"),
    "solvers",
    *("paths.schedule", "paths.interpolant", "paths.coupling", "paths.time_sampling"),
    "paths.optimal_transport",
)


def __getattr__(name: str) -> Any:
    # Not at once: configurations only want to know the names in `choices`, without torch.
    if name in __all__:
        methods = importlib.import_module("lfm_policy.flow.methods")
        if name in methods.__all__:
            return getattr(methods, name)
        for module in _MODULES:
            found = vars(importlib.import_module(f"lfm_policy.flow.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module 'lfm_policy.flow' has no attribute '{name}'")
