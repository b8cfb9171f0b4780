"""Rules for a block, by name: one file each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lfm_policy.flow.choices import METHODS

if TYPE_CHECKING:
    from lfm_policy.flow.methods.base import BlockPath, ErrorMethod, Method, OdeMethod, check_output
    from lfm_policy.flow.methods.clean_chunk import CleanChunkMethod
    from lfm_policy.flow.methods.consistency_fm import ConsistencyFlowMethod
    from lfm_policy.flow.methods.diffusion.method import DiffusionMethod
    from lfm_policy.flow.methods.diffusion.options import DiffusionConfig
    from lfm_policy.flow.methods.flow_map import FlowMapMethod
    from lfm_policy.flow.methods.mean_flow import MeanFlowMethod
    from lfm_policy.flow.methods.mean_velocity import MeanVelocityMethod, Steps
    from lfm_policy.flow.methods.options import (
        CleanChunkConfig,
        ConsistencyFlowConfig,
        ErrorConfig,
        FlowMapConfig,
        MeanFlowConfig,
        MeanVelocityConfig,
        MethodConfig,
        RegressionConfig,
        ShortcutConfig,
        VelocityConfig,
    )
    from lfm_policy.flow.methods.regression import RegressionMethod
    from lfm_policy.flow.methods.shortcut import ShortcutMethod
    from lfm_policy.flow.methods.velocity import VelocityMethod

__all__ = [
    "METHODS",
    "BlockPath",
    "CleanChunkConfig",
    "CleanChunkMethod",
    "ConsistencyFlowConfig",
    "ConsistencyFlowMethod",
    "DiffusionConfig",
    "DiffusionMethod",
    "ErrorConfig",
    "ErrorMethod",
    "FlowMapConfig",
    "FlowMapMethod",
    "MeanFlowConfig",
    "MeanFlowMethod",
    "MeanVelocityConfig",
    "MeanVelocityMethod",
    "Method",
    "MethodConfig",
    "OdeMethod",
    "RegressionConfig",
    "RegressionMethod",
    "ShortcutConfig",
    "ShortcutMethod",
    "Steps",
    "VelocityConfig",
    "VelocityMethod",
    "check_output",
]

_MODULES = (
    *("options", "base", "velocity", "clean_chunk", "regression"),
    *("mean_velocity", "mean_flow", "flow_map", "shortcut", "consistency_fm"),
    *("diffusion.options", "diffusion.method"),
)


def __getattr__(name: str) -> Any:
    # Not at once: configurations only want the options, without torch.
    if name in __all__:
        for module in _MODULES:
            found = vars(importlib.import_module(f"lfm_policy.flow.methods.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module 'lfm_policy.flow.methods' has no attribute '{name}'")
