"""How long a distillation will take: the teacher's samples and the students' steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from lfm_policy.config.block_networks import network_configs
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.distillation.methods import METHODS
from lfm_policy.distillation.samples import Pairs
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.estimate.advice import TEACHER_SAMPLES, Names
from lfm_policy.training.estimate.estimate import Estimate
from lfm_policy.training.estimate.needs import FLOAT
from lfm_policy.training.estimate.training import estimate_works
from lfm_policy.training.estimate.trial import (
    ADAPTIVE_EVALUATIONS,
    Counts,
    features_work,
    steps_left,
    trial_of,
    trial_steps,
)
from lfm_policy.training.estimate.work import Work
from lfm_policy.training.run import JOINT, Run
from lfm_policy.training.trainer import Part

Once: TypeAlias = Callable[[], object]

TRIAL_ROWS = 4096
"""Made-up samples of the teacher on which students are tried."""


def estimate_student(
    run: Run,
    groups: Sequence[TeacherGroup],
    counts: Counts,
    *,
    made_up: bool = False,
    kept_rows: int = 0,
    unknown_frames: int = 0,
    names: Names | None = None,
    teacher: PolicyModel | None = None,
    encoder: Callable[[Run], Part] | None = None,
) -> Estimate:
    """Return how long what is left of a distillation will take, and what it needs.

    Args:
        run: of the student, before its first step.
        groups: the teacher's blocks that each student block replaces.
        counts: of the data, a recording's included.
        made_up: whether the run's own data are made up.
        kept_rows: samples of the teacher, of all groups together, that are there already.
        unknown_frames: camera frames whose features are not known yet.
        names: what options are called where advice is read.
        teacher: whose condition its blocks take; that of the run's model by default.
        encoder: makes the part in which the student's encoder learns, of a trial of the run; None:
            it has none that learns.
    """
    options, begun = run.config.distill, run.header is not None
    numbers = [n for n in range(run.model.n_blocks, 0, -1) if steps_left(run, n)]
    rows = counts.windows * options.samples
    missing = 1 - min(1.0, kept_rows / (len(groups) * rows))
    works: list[Work] = []
    joint_steps = 0 if encoder is None else steps_left(run, JOINT)
    if encoder is not None and joint_steps:
        works.append(Work("encoder", "step", joint_steps, _joint_step(run, encoder)))
    if unknown_frames and (joint_steps or not begun):
        works.append(features_work(run, unknown_frames))
    if missing:
        asked = rows * missing + counts.validation_windows
        works.append(_teacher(run, groups, asked, teacher or run.model))
    works += _students(run, groups, numbers)
    # y, the way from it, and what is observed, for every row.
    points = METHODS.get(options.method).points(options)
    chunk = run.config.policy.horizon * run.spec.action_dim * FLOAT
    noise = run.options.obs_noise or run.options.feature_noise
    observed = run.model.encoder.cond_dim * FLOAT if noise else 0
    return estimate_works(
        run,
        works,
        [JOINT, *numbers] if joint_steps else numbers,
        counts=counts if made_up else None,
        data_there=not unknown_frames,
        disk={TEACHER_SAMPLES: len(groups) * rows * points * chunk},
        memory=rows * ((1 + points) * chunk + observed),
        names=names or Names(),
    )


def _joint_step(run: Run, encoder: Callable[[Run], Part]) -> Callable[[], Once]:
    def start() -> Once:
        trial = trial_of(run, encoder_learns=True)
        return trial_steps(trial, encoder(trial))

    return start


def _teacher(run: Run, groups: Sequence[TeacherGroup], rows: float, teacher: PolicyModel) -> Work:
    """Return the teacher's ways: network evaluations of batches of rows, of all its blocks."""
    batch_size = run.config.distill.batch_size
    in_trial = min(batch_size, math.ceil(rows))
    chain = groups[0].chain
    blocks = [chain.block(n) for n in range(1, chain.n_blocks + 1)]
    evaluations = sum(
        block.evaluations(solver) or ADAPTIVE_EVALUATIONS * block.evaluations_per_answer
        for block, solver in zip(blocks, chain.solver_per_block(groups[0].solver), strict=True)
    )
    one_step = SolverSpec("euler", 1)
    group = replace(groups[-1], solver=one_step)

    def start() -> Once:
        y = torch.randn(in_trial, *run.model.chunk_shape, device=run.device)
        cond = _condition(teacher, in_trial, run.device)
        return lambda: group.sample(y, cond)

    asked = sum(block.evaluations(one_step) or 1 for block in blocks[group.first - 1 : group.last])
    per_call = asked * in_trial / batch_size
    count = evaluations * rows / batch_size
    return Work(TEACHER_SAMPLES, "evaluation", count, start, per_call)


def _students(run: Run, groups: Sequence[TeacherGroup], numbers: Sequence[int]) -> list[Work]:
    """Return the steps of all student blocks; those with equal networks are one kind of work."""
    networks = [repr(network) for network in network_configs(run.config)]
    same = len(set(networks)) == 1
    works: dict[str, Work] = {}
    for n in numbers:
        left = steps_left(run, n)
        before = works.get(networks[n - 1])
        if before is not None:
            works[networks[n - 1]] = replace(before, count=before.count + left)
        else:
            label = "student" if same else f"student block {n}"
            works[networks[n - 1]] = Work(label, "step", left, _steps_of(run, groups, n))
    return list(works.values())


def _steps_of(run: Run, groups: Sequence[TeacherGroup], n: int) -> Callable[[], Once]:
    def start() -> Once:
        trial, options = trial_of(run, encoder_learns=False), run.config.distill
        loss_class = METHODS.get(options.method)
        loss = loss_class(trial.model.blocks[n - 1], groups[n - 1], options)
        y = torch.randn(TRIAL_ROWS, *run.model.chunk_shape, device=run.device)
        path = torch.stack([y] * loss_class.points(options), dim=1)
        observed = _condition(run.model, TRIAL_ROWS, run.device)

        def condition(rows: Tensor) -> Tensor | None:
            return None if observed is None else observed.index_select(0, rows)

        pairs = Pairs(y=y, path=path, condition=condition)
        return trial_steps(trial, Part(n, loss, pairs, None, run.steps(n), trial.options))

    return start


def _condition(model: PolicyModel, rows: int, device: torch.device) -> Tensor | None:
    """Return random encodings, as long as those of observations and prefix; None for neither."""
    prefix = 0 if model.prefix is None else model.prefix.size
    length = model.encoder.cond_dim + prefix
    return torch.randn(rows, length, device=device) if length else None
