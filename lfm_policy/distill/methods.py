"""Distillation methods by name; a new one is one file and one line here."""

from __future__ import annotations

from lfm_policy.distill.consistency import ConsistencyLoss
from lfm_policy.distill.distribution import DistributionLoss
from lfm_policy.distill.method import DistillLoss
from lfm_policy.distill.progressive import ProgressiveLoss
from lfm_policy.distill.regression import RegressionLoss
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
