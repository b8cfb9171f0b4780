"""Distillation methods by name; a new one is one file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from lfm_policy.distillation.methods.base import DistillLoss

METHODS: Registry[type[DistillLoss]] = Registry(
    "distillation method",
    {
        "regression": "lfm_policy.distillation.methods.regression:RegressionLoss",
        "progressive": "lfm_policy.distillation.methods.progressive:ProgressiveLoss",
        "consistency": "lfm_policy.distillation.methods.consistency:ConsistencyLoss",
        "rectified": "lfm_policy.distillation.methods.rectified:RectifiedLoss",
        "flow_map": "lfm_policy.distillation.methods.flow_map:FlowMapLoss",
        "distribution": "lfm_policy.distillation.methods.distribution:DistributionLoss",
    },
)
