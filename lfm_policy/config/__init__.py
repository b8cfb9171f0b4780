"""Options of an experiment and how they are read."""

from __future__ import annotations

from lfm_policy.config.distillation import DistillConfig
from lfm_policy.config.flow import FlowConfig, PushForwardConfig, TimeConfig
from lfm_policy.config.load import (
    bundled_config_names,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    load_config,
    stored_config,
)
from lfm_policy.config.sampler import SamplerConfig
from lfm_policy.config.schema import EnvConfig, ExperimentConfig, NormalizationConfig, PolicyConfig
from lfm_policy.config.training import EvalConfig, InitConfig, TrainingConfig

__all__ = [
    "DistillConfig",
    "EnvConfig",
    "EvalConfig",
    "ExperimentConfig",
    "FlowConfig",
    "InitConfig",
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
    "stored_config",
]
