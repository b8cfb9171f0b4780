"""The work of a training, part by part, on copies of all that learns.

What is measured is what will be done: the parts come from the plan itself, on a `trial_of` the
run. Nothing of the run changes, so that its results are the same to the last bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor

from lfm_policy.config.block_networks import network_configs
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.device import autocast
from lfm_policy.flow import SolverSpec
from lfm_policy.training.blocks import BlockPlan
from lfm_policy.training.estimate.work import Work
from lfm_policy.training.push import BlockPusher
from lfm_policy.training.run import JOINT, Run
from lfm_policy.training.trainer import Part, Trainer

TRIAL_WINDOWS = 4096
"""Windows that trials see, taken from the whole dataset."""

TRIAL_FRAMES = 16
"""Camera frames that are encoded at once."""

TRIAL_PART = 1000
"""Added to a part's number, so that a trial's random numbers are none of the training's."""

ADAPTIVE_EVALUATIONS = 38
"""Evaluations of an adaptive push-forward through a trained block, such as PushT's."""

FEWEST_VALIDATIONS = 0.01
"""Share of a part's time below which validation is not worth measuring."""


@dataclass(frozen=True)
class Counts:
    """How much data there is: training windows, validation windows, frames of all episodes."""

    windows: int
    validation_windows: int
    frames: int

    @classmethod
    def of(cls, run: Run) -> Counts:
        """Return those of a run."""
        validation = run.validation_set
        n_validation = 0 if validation is None else len(validation)
        return cls(len(run.train_set), n_validation, run.train_set.n_frames)


class LoneAccelerator:
    """Stands in for a run's accelerator, whose state must stay as it is: one process, no scaler."""

    num_processes, process_index = 1, 0

    def __init__(self, mixed_precision: str, device: torch.device) -> None:
        self._mixed_precision = mixed_precision
        self._device = device

    def autocast(self) -> AbstractContextManager[Any]:
        """Return in what steps are to be done."""
        return autocast(self._mixed_precision, self._device)

    def prepare(self, *objects: Any) -> tuple[Any, ...]:
        """Return the same."""
        return objects

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        loss.backward()

    def unscale_gradients(self, optimizer: Any) -> None:
        """Do nothing."""


def trial_of(run: Run, *, encoder_learns: bool) -> Run:
    """Return a copy of a run with networks of its own and some of its windows.

    Args:
        run: stays as it is.
        encoder_learns: whether it sees camera images; else it sees features, all zero, which take
            no memory.
    """
    trial = copy.copy(run)
    trial.model = copy.deepcopy(run.model)
    trial.progress = copy.deepcopy(run.progress)
    trial.kept, trial.restored = {}, {}
    trial.options = replace(run.options, compile=False)
    lone = LoneAccelerator(run.options.mixed_precision, run.device)
    trial.accelerator = cast(Accelerator, lone)
    windows = run.train_set if encoder_learns else _with_zero_features(run.train_set, run)
    trial.train_set = some_windows(windows, TRIAL_WINDOWS)
    if run.validation_set is not None:
        trial.validation_set = some_windows(windows, run.options.batch_size)
    return trial


def some_windows(dataset: WindowDataset, count: int) -> WindowDataset:
    """Return at most ``count`` windows, spread over all."""
    index = copy.copy(dataset.index)
    count = min(count, len(index))
    rows = torch.linspace(0, len(index) - 1, count, dtype=torch.float64).long()
    rows = rows.to(index.indices.device)
    index.indices = index.indices[rows]
    index.obs_indices = index.obs_indices[rows]
    return dataset.with_index(index)


def trial_steps(trial: Run, part: Part) -> Callable[[], object]:
    """Return what does one gradient step of a trial's part."""
    trainer = _trainer(trial, part)
    accelerator = cast(LoneAccelerator, trial.accelerator)

    def once() -> None:
        with accelerator.autocast():
            trainer.train_step()

    return once


def steps_left(run: Run, n: int) -> int:
    """Return the gradient steps that part n has yet to get, in all passes."""
    return sum(p.steps(n) for p in run.passes) - run.progress.record(n).steps


def block_works(run: Run, plan: BlockPlan, counts: Counts | None = None) -> list[Work]:
    """Return all that is still to be done of a training.

    Blocks with equal networks are one kind of work.

    Args:
        run: as the plan left it, before its first step.
        plan: what is trained.
        counts: of the data, where the run's own are only a part of them.
    """
    counts = counts or Counts.of(run)
    works: list[Work] = []
    found: dict[Hashable, int] = {}  # kind of work -> its place among them
    networks = network_configs(run.config)
    numbers = [n for n in plan.numbers() if steps_left(run, n) > 0]
    in_this_pass = run.progress.left(plan.numbers())

    def add(kind: Hashable, work: Work) -> None:
        if kind in found:
            same = works[found[kind]]
            works[found[kind]] = replace(same, count=same.count + work.count)
        elif work.count > 0:
            found[kind] = len(works)
            works.append(work)

    same_networks = len({repr(network) for network in networks}) == 1
    needs_features = bool(run.train_set.image_keys) and not run.train_set.n_views
    for n in numbers:
        learns = plan.trains_encoder(n)
        network = repr(networks[n - 1]) if n else ""
        left = steps_left(run, n)
        name = "encoder" if n == JOINT else f"block {n}"
        if n and learns:
            name = f"encoder with {name}"
        elif n and same_networks and len(networks) > 1:
            name = "blocks"
        if not learns and needs_features and "features" not in found:
            add("features", features_work(run, counts.frames))
        add((learns, network), Work(name, "step", left, _step_of(run, plan, n, learns)))
        batch = (run.options.of_encoder() if learns else run.options).batch_size
        looks = (left // run.options.validation_every + 1) * -(-counts.validation_windows // batch)
        if run.validation_set is not None and looks > 3 * FEWEST_VALIDATIONS * left:
            validate = _validation_of(run, plan, n, learns)
            add(("validation", learns, network), Work("validation", "batch", looks, validate))
        if n in in_this_pass and plan.pushes(n):
            add(("push", network), _push(run, plan, n, counts))
    return works


def _trainer(trial: Run, part: Part) -> Trainer:
    part = replace(part, n=part.n + TRIAL_PART)
    return Trainer(part, trial.accelerator, seed=trial.config.seed)


def _step_of(run: Run, plan: BlockPlan, n: int, learns: bool) -> Callable[[], Any]:
    def start() -> Callable[[], object]:
        trial = trial_of(run, encoder_learns=learns)
        return trial_steps(trial, plan.on(trial).part(n))

    return start


def _validation_of(run: Run, plan: BlockPlan, n: int, learns: bool) -> Callable[[], Any]:
    def start() -> Callable[[], object]:
        trial = trial_of(run, encoder_learns=learns)
        part = plan.on(trial).part(n)
        trainer, rows = _trainer(trial, part), part.validation
        assert rows is not None
        return lambda: trainer.validation_loss(rows, len(rows))

    return start


def _push(run: Run, plan: BlockPlan, n: int, counts: Counts) -> Work:
    options = run.config.push_forward
    solver = SolverSpec(options.solver, options.n_steps)
    evaluations = run.config.flow.method.create().evaluations(solver) or ADAPTIVE_EVALUATIONS
    in_trial = min(options.batch_size, TRIAL_WINDOWS, len(run.train_set))

    def start() -> Callable[[], object]:
        trial = trial_of(run, encoder_learns=False)
        one_step = replace(options, solver="euler", n_steps=1, batch_size=in_trial)
        pusher = BlockPusher(trial.model.eval(), n, one_step, trial.accelerator)
        rows = plan.on(trial).part(n).rows
        return lambda: next(pusher.push(cast(Any, rows)))

    rows = counts.windows + counts.validation_windows
    batches = rows / options.batch_size
    share = in_trial / options.batch_size
    return Work("push-forward", "evaluation", batches * evaluations, start, share)


def features_work(run: Run, frames: int) -> Work:
    """Return the encoding of every view of so many frames of each camera, by a frozen encoder."""
    keys = run.model.encoder.image_keys
    n_frames = min(TRIAL_FRAMES, run.train_set.n_frames)

    def start() -> Callable[[], object]:
        encoder = copy.deepcopy(run.model.encoder).eval()

        @torch.no_grad()
        def once() -> None:
            with autocast(run.options.mixed_precision, run.device):
                for key in keys:
                    encoder.frame_features(key, run.train_set.frames(key, 0, n_frames), 0)

        return once

    count = frames * run.config.training.encoder_views * len(keys)
    return Work("features", "frame", count, start, n_frames * len(keys))


def _with_zero_features(dataset: WindowDataset, run: Run) -> WindowDataset:
    if not dataset.image_keys or dataset.n_views:
        return dataset
    encoder, views = run.model.encoder, run.config.training.encoder_views

    def zeros(key: str) -> Tensor:
        one = torch.zeros(1, 1, encoder.feature_dim(key), device=run.device)
        return one.expand(views, dataset.n_frames, -1)

    return dataset.with_features({key: zeros(key) for key in encoder.image_keys})
