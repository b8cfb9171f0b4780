"""Options of the demo, checked before minutes are spent on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lfm_policy.assets import bundled_demonstrations
from lfm_policy.config import ExperimentConfig, load_config
from lfm_policy.distillation.group import group_edges
from lfm_policy.errors import InputError
from lfm_policy.evaluation.rollouts import RolloutConfig

CONFIG = "pusht/demo"
ENVIRONMENT = "lfm/PushT-v0"
STUDENTS = (2, 1)
"""Network evaluations of the students."""
STUDENT_METHOD = "regression"
TEACHER_STEPS_PER_STUDENT_STEP = 3
SEED_START = 100_000
"""Environment seed of the first episode: where test seeds begin."""


def demo_config(dataset: Path | None, overrides: Sequence[str]) -> ExperimentConfig:
    """Return the options of the teacher.

    Args:
        dataset: PushT demonstrations; None: those that ``overrides`` name, or else the bundled
            ones.
        overrides: strings ``section.key=value`` on top of the configuration of the demo.

    Raises:
        InputError: an override is wrong or makes it something other than the demo, or there are
            no demonstrations.
    """
    named = any(text.partition("=")[0].strip() == "dataset.path" for text in overrides)
    if dataset is None and not named:
        dataset = bundled_demonstrations()
    # JSON is YAML, too, and quotes what a path may hold.
    path = [] if dataset is None else [f"dataset.path={json.dumps(str(dataset))}"]
    config = load_config(CONFIG, [*overrides, *path])
    if config.env.id != ENVIRONMENT:
        raise InputError(
            f"env.id is '{config.env.id}': the demo draws the board of PushT, so it must be "
            f"{ENVIRONMENT}"
        )
    for nfe in STUDENTS:
        group_edges(config.flow.n_blocks, nfe, student_groups(config, nfe))
    return config


def student_groups(config: ExperimentConfig, nfe: int) -> tuple[int, ...]:
    """Return how many teacher blocks each of ``nfe`` students replaces, from the data on.

    Empty if all replace as many (or parts of one block). Else those at the data side, whose work is
    the easiest, replace one more.
    """
    blocks = config.flow.n_blocks
    if blocks < nfe or blocks % nfe == 0:
        return ()
    each, more = divmod(blocks, nfe)
    return (each + 1,) * more + (each,) * (nfe - more)


def student_overrides(config: ExperimentConfig, nfe: int) -> list[str]:
    """Return what a student of ``nfe`` blocks changes in its teacher's options."""
    steps = max(config.training.total_steps // TEACHER_STEPS_PER_STUDENT_STEP, nfe)
    return [f"training.total_steps={steps}"]


def rollout_config(config: ExperimentConfig) -> RolloutConfig:
    """Return how teacher and students are rolled out: the same starts, the same noise."""
    return RolloutConfig.of(config.env, seed_start=SEED_START)
