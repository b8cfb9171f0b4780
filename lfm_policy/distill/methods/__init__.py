"""Distillation methods by name; a new one is one file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfm_runtime.registry import Registry

if TYPE_CHECKING:
    from lfm_policy.distill.methods.base import DistillLoss

METHODS: Registry[type[DistillLoss]] = Registry(
    "distillation method",
    {
        "regression": "lfm_policy.distill.methods.regression:RegressionLoss",
        "progressive": "lfm_policy.distill.methods.progressive:ProgressiveLoss",
        "consistency": "lfm_policy.distill.methods.consistency:ConsistencyLoss",
        "distribution": "lfm_policy.distill.methods.distribution:DistributionLoss",
    },
)
