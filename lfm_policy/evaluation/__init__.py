"""Rollouts and how their results are reported."""

from __future__ import annotations

from lfm_policy.evaluation.episodes import settled, successes_of
from lfm_policy.evaluation.evaluation import (
    NoSuccessReportedWarning,
    evaluate,
    measure_latency,
)
from lfm_policy.evaluation.report import Cell, evaluation_to_dict
from lfm_policy.evaluation.rollouts import EpisodeResult, RolloutConfig, rollout
from lfm_policy.evaluation.statistics import (
    bootstrap_mean,
    compare_paired,
    mcnemar_exact,
    paired_bootstrap,
    wilson_interval,
)

__all__ = [
    "Cell",
    "EpisodeResult",
    "NoSuccessReportedWarning",
    "RolloutConfig",
    "bootstrap_mean",
    "compare_paired",
    "evaluate",
    "evaluation_to_dict",
    "mcnemar_exact",
    "measure_latency",
    "paired_bootstrap",
    "rollout",
    "settled",
    "successes_of",
    "wilson_interval",
]
