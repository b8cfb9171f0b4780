"""The mathematics of Local Flow Matching; it knows nothing of robots, files or configurations.

A chain of N blocks carries data (t = 0 of block 1) to N(0, I) (t = 1 of block N). Shapes are
x (B, *chunk_shape) for any chunk shape, t (B,), cond (B, cond_dim) or None.

    schedule       OU steps gamma_n of the blocks           interpolant    paths between pairs
    coupling       how the pairs are drawn                  time_sampling  distribution of t
    prediction     what the network's output means          block          velocity and loss
    solver         one ODE, evaluations counted             chain          sampling, push-forward
    likelihood     exact log p(x | O)                       affine         closed forms to verify by
"""

from lfm_policy.flow.affine import GaussianBlockVelocity, push_gaussian
from lfm_policy.flow.block import FlowBlock
from lfm_policy.flow.chain import FlowChain, PushResult, SampleResult
from lfm_policy.flow.coupling import COUPLINGS, Coupling
from lfm_policy.flow.interpolant import (
    INTERPOLANTS,
    Coefficients,
    Interpolant,
    LinearInterpolant,
    PathSample,
    TrigonometricInterpolant,
)
from lfm_policy.flow.likelihood import LogProbResult, log_prob, velocity_and_divergence
from lfm_policy.flow.prediction import (
    PREDICTIONS,
    DataPrediction,
    Prediction,
    RegressionPrediction,
    VelocityPrediction,
)
from lfm_policy.flow.schedule import OUSchedule, OUStep, geometric_step_sizes
from lfm_policy.flow.solver import (
    SOLVERS,
    OdeResult,
    SolverMethod,
    SolverSpec,
    check_step_times,
    integrate,
)
from lfm_policy.flow.time_sampling import (
    TIME_SAMPLERS,
    BetaTime,
    PointTimes,
    TimeSampler,
    UniformTime,
)
from lfm_policy.flow.velocity import Velocity

__all__ = [
    "COUPLINGS",
    "INTERPOLANTS",
    "PREDICTIONS",
    "SOLVERS",
    "TIME_SAMPLERS",
    "BetaTime",
    "Coefficients",
    "Coupling",
    "DataPrediction",
    "FlowBlock",
    "FlowChain",
    "GaussianBlockVelocity",
    "Interpolant",
    "LinearInterpolant",
    "LogProbResult",
    "OUSchedule",
    "OUStep",
    "OdeResult",
    "PathSample",
    "PointTimes",
    "Prediction",
    "PushResult",
    "RegressionPrediction",
    "SampleResult",
    "SolverMethod",
    "SolverSpec",
    "TimeSampler",
    "TrigonometricInterpolant",
    "UniformTime",
    "Velocity",
    "VelocityPrediction",
    "check_step_times",
    "geometric_step_sizes",
    "integrate",
    "log_prob",
    "push_gaussian",
    "velocity_and_divergence",
]
