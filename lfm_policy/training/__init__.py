"""Training: one loop for every method, resumable at any point."""

from __future__ import annotations

import warnings
from pathlib import Path

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.environment import with_environment
from lfm_policy.errors import Interrupted, TrainingError
from lfm_policy.policy.checkpoint import read_header
from lfm_policy.training.blocks import BlockPlan
from lfm_policy.training.estimate.training import estimate_run
from lfm_policy.training.parallel import train_blocks_in_processes, wants_processes
from lfm_policy.training.run import Run
from lfm_policy.training.selection import Rollouts, prepare_rollouts
from lfm_policy.training.start.ignored import warn_of_ignored
from lfm_policy.training.start.source import with_source
from lfm_policy.training.train import train_parts

__all__ = ["BlockPlan", "Interrupted", "Run", "TrainingError", "train", "train_parts"]


def train(
    config: ExperimentConfig,
    folder: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    init_from: str | Path | None = None,
    rollouts: Rollouts | None = None,
    quiet: bool = False,
) -> Path:
    """Train a policy; returns its final checkpoint folder.

    Args:
        config: all options.
        folder: run folder for checkpoints and metrics.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: go on from the newest checkpoint in ``folder``, if there is one.
        init_from: checkpoint, run folder or name of a policy whose weights the training starts
            from, as ``config.init`` says. It is not needed to go on.
        rollouts: rolls the policy out while it is trained, as ``config.eval`` says, such as
            `lfm_policy.evaluation.evaluation.SelectionRollouts`.
        quiet: no progress bars.

    Raises:
        InputError: bad data or options, or ``folder`` holds another run.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; a checkpoint was written.
        TrainingError: the loss became NaN; the last good checkpoint was kept.
    """
    folder = Path(folder)
    config = with_environment(config)
    source = None if init_from is None else read_header(init_from)
    if source is not None:
        config = with_source(config, source)
    warn_of_ignored(config)
    if wants_processes(config, folder, resume=resume):
        if config.eval.every:
            warnings.warn(
                f"eval.every is {config.eval.every}, but blocks that are trained in processes of "
                "their own are no policy before the end: roll it out then with 'lfm-policy eval', "
                "or set training.parallel_processes=1",
                stacklevel=2,
            )
        return train_blocks_in_processes(
            config, folder, device=device, resume=resume, source=source, quiet=quiet
        )
    prepare_rollouts(rollouts, config)
    run = Run(config, folder, device=device, resume=resume, source=source, quiet=quiet)
    plan = BlockPlan(run)
    return train_parts(run, plan, lambda: estimate_run(run, plan), rollouts)
