"""Options that were set and mean nothing to a student."""

from __future__ import annotations

import warnings

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.distillation import DistillConfig
from lfm_policy.distillation.methods import METHODS


def warn_of_unused(config: ExperimentConfig) -> None:
    """Say which options were set that only other methods know, or only trainings."""
    options, method = config.distill, config.flow.method
    for name in method.LEARNING:
        if (value := getattr(method, name)) != getattr(type(method)(), name):
            warnings.warn(
                f"flow.method.{name} is {value}, which means nothing to a student; how it learns "
                "is said by the options of distill",
                stacklevel=2,
            )
    used = METHODS.get(options.method).own_options
    others = {name for other in METHODS.names() for name in METHODS.get(other).own_options}
    for name in sorted(others.difference(used)):
        value = getattr(options, name)
        if value != getattr(DistillConfig(), name):
            warnings.warn(
                f"distill.{name} is {value}, which means nothing to the method '{options.method}'",
                stacklevel=2,
            )
