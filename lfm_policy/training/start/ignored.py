"""Options that were set and mean nothing beside others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from lfm_policy.config import ExperimentConfig


def warn_of_ignored(config: ExperimentConfig) -> None:
    """Say which options were set that have no effect, and why."""
    for key, value, why in _ignored(config):
        warnings.warn(f"{key} is {value}, which has no effect: {why}", stacklevel=3)


def _ignored(config: ExperimentConfig) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and reason of each."""
    training, flow, sampler = config.training, config.flow, config.sampler
    if training.block_training == "parallel":
        if training.warm_start and flow.n_blocks > 1:
            why = "with training.block_training=parallel the blocks do not wait for one another"
            yield "training.warm_start", True, why
    elif training.parallel_processes > 1:
        why = "blocks are trained at once with training.block_training=parallel alone"
        yield "training.parallel_processes", training.parallel_processes, why
    for name in ("alpha", "beta"):
        if flow.time.name != "beta" and (value := getattr(flow.time, name)) != 1:
            why = f"flow.time.name is '{flow.time.name}', and not 'beta'"
            yield f"flow.time.{name}", value, why
    if flow.coupling != "optimal" and flow.coupling_weight != 1:
        why = f"flow.coupling is '{flow.coupling}', and not 'optimal'"
        yield "flow.coupling_weight", flow.coupling_weight, why
    solvers = sampler.solvers(flow.n_blocks, method=flow.method.create())
    if solvers[0].evaluations is None:
        for name in ("times", "block_nfe", "block_times"):
            if value := getattr(sampler, name):
                yield f"sampler.{name}", value, f"'{solvers[0].name}' chooses its steps itself"
    elif sampler.times and not any(solver.times for solver in solvers):
        why = f"no block has {len(sampler.times) + 1} steps"
        yield "sampler.times", sampler.times, why
