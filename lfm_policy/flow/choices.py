"""What can be chosen by name: paths between pairs, couplings, times, solvers, methods.

Light to import: an entry is imported when it is asked for. A new one is one file, or one class
beside the others, and its line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from lfm_policy.flow.methods.options import MethodConfig
    from lfm_policy.flow.paths.coupling import Coupling
    from lfm_policy.flow.paths.interpolant import Interpolant
    from lfm_policy.flow.paths.time_sampling import TimeSampler
    from lfm_policy.flow.solvers.solver import SolverMethod

INTERPOLANTS: Registry[Interpolant] = Registry(
    "interpolant",
    {
        "linear": "lfm_policy.flow.paths.interpolant:LINEAR",
        "trigonometric": "lfm_policy.flow.paths.interpolant:TRIGONOMETRIC",
    },
)
COUPLINGS: Registry[Coupling] = Registry(
    "coupling",
    {
        "dependent": "lfm_policy.flow.paths.coupling:dependent",
        "shuffled": "lfm_policy.flow.paths.coupling:shuffled",
        "independent": "lfm_policy.flow.paths.coupling:independent",
        "optimal": "lfm_policy.flow.paths.optimal_transport:OPTIMAL",
    },
)
TIME_SAMPLERS: Registry[Callable[..., TimeSampler]] = Registry(
    "time sampler",
    {
        "uniform": "lfm_policy.flow.paths.time_sampling:UniformTime",
        "beta": "lfm_policy.flow.paths.time_sampling:BetaTime",
        "points": "lfm_policy.flow.paths.time_sampling:PointTimes",
    },
)
SOLVERS: Registry[SolverMethod] = Registry(
    "solver",
    {
        "euler": "lfm_policy.flow.solvers.solver:EULER",
        "midpoint": "lfm_policy.flow.solvers.solver:MIDPOINT",
        "heun": "lfm_policy.flow.solvers.solver:HEUN",
        "dopri5": "lfm_policy.flow.solvers.solver:DOPRI5",
        "ddpm": "lfm_policy.flow.solvers.solver:DDPM",
        "ddim": "lfm_policy.flow.solvers.solver:DDIM",
        "dpmsolver++": "lfm_policy.flow.solvers.solver:DPM_SOLVER",
    },
)
METHODS: Registry[type[MethodConfig]] = Registry(
    "method",
    {
        "velocity": "lfm_policy.flow.methods.options:VelocityConfig",
        "data": "lfm_policy.flow.methods.options:CleanChunkConfig",
        "regression": "lfm_policy.flow.methods.options:RegressionConfig",
        "mean_flow": "lfm_policy.flow.methods.options:MeanFlowConfig",
        "flow_map": "lfm_policy.flow.methods.options:FlowMapConfig",
        "shortcut": "lfm_policy.flow.methods.options:ShortcutConfig",
        "consistency_fm": "lfm_policy.flow.methods.options:ConsistencyFlowConfig",
        "diffusion": "lfm_policy.flow.methods.diffusion.options:DiffusionConfig",
    },
)
"""Options of the methods, which make them."""
