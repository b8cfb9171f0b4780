"""Options of an experiment and how they are read."""

from __future__ import annotations

from lfm_policy.config.load import (
    bundled_config_names,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    load_config,
)
from lfm_policy.config.schema import (
    EnvConfig,
    ExperimentConfig,
    FlowConfig,
    NormalizationConfig,
    PolicyConfig,
    PushForwardConfig,
    SamplerConfig,
    TimeConfig,
    TrainingConfig,
)

__all__ = [
    "EnvConfig",
    "ExperimentConfig",
    "FlowConfig",
    "NormalizationConfig",
    "PolicyConfig",
    "PushForwardConfig",
    "SamplerConfig",
    "TimeConfig",
    "TrainingConfig",
    "bundled_config_names",
    "config_from_dict",
    "config_to_dict",
    "config_to_yaml",
    "load_config",
]
