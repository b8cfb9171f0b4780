"""Distillation methods by name; a new one is one file and one line here."""

from __future__ import annotations

from lfm_policy.distill.methods.base import DistillLoss
from lfm_policy.distill.methods.consistency import ConsistencyLoss
from lfm_policy.distill.methods.distribution import DistributionLoss
from lfm_policy.distill.methods.progressive import ProgressiveLoss
from lfm_policy.distill.methods.regression import RegressionLoss
from lfm_runtime.registry import Registry

METHODS: Registry[type[DistillLoss]] = Registry(
    "distillation method",
    {
        "regression": RegressionLoss,
        "progressive": ProgressiveLoss,
        "consistency": ConsistencyLoss,
        "distribution": DistributionLoss,
    },
)

__all__ = ["METHODS", "DistillLoss"]
