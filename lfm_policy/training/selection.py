"""Rollouts during a training, and the best policy among those that were rolled out.

Training knows of no environments: what rolls a policy out is given to it from above.
"""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from accelerate.utils import get_int_from_env

from lfm_policy.config import EvalConfig, ExperimentConfig
from lfm_policy.errors import EvaluationError, InputError
from lfm_policy.policy.policy import Policy
from lfm_policy.training.run import Run
from lfm_policy.training.run_folder.best import SELECTION, read_best
from lfm_policy.training.trainer import Trainer


@dataclass(frozen=True)
class Score:
    """How good a policy was in some episodes.

    Attributes:
        episodes: how many.
        successes: of them; None where the environment does not report success.
        score: mean over episodes of the largest reward.
        low, high: 95% interval of the success rate, or of the score where there is none.
        seed_start: environment seed of the first episode.
        nfe: network evaluations per chunk; 0 for an adaptive solver, which takes what it needs.
    """

    episodes: int
    successes: int | None
    score: float
    low: float
    high: float
    seed_start: int
    nfe: int

    def rank(self) -> tuple[int, float]:
        """Return what is larger for a better policy: successes, and then the score."""
        return self.successes or 0, self.score


class Rollouts(Protocol):
    """Rolls policies out while they are trained."""

    def prepare(self, config: ExperimentConfig) -> None:
        """Make sure that it can be done, before a training begins.

        Raises:
            InputError: there is no environment, or its simulator is missing.
        """

    def roll_out(
        self, policy: Policy, options: EvalConfig, *, each_step: Callable[[], None], quiet: bool
    ) -> Score:
        """Return how good a policy is; ``each_step`` is called often, and may raise."""


def prepare_rollouts(rollouts: Rollouts | None, config: ExperimentConfig) -> None:
    """Make sure that a policy can be rolled out while it is trained, before data are read.

    Raises:
        InputError: it is to be, and there is no environment, or its simulator is missing.
    """
    first = get_int_from_env(["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"], 0) == 0
    if rollouts is not None and config.eval.every and first:
        rollouts.prepare(config)


class _StoppedError(Exception):
    """A signal came among rollouts."""


class Selection:
    """Rolls out the policy of a run now and then, and keeps the best one.

    Nothing of it has an influence on the training: random numbers, weights and the time that steps
    take are as without it.
    """

    def __init__(self, run: Run, rollouts: Rollouts | None) -> None:
        """Take over rollouts that are prepared; nothing is rolled out where ``eval.every`` is 0."""
        self._run = run
        self._options = run.config.eval
        self._rollouts = rollouts if self._options.every else None
        if self._options.every and rollouts is None:
            warnings.warn(
                f"eval.every is {self._options.every}, but nothing here rolls policies out: pass "
                "rollouts=, or train with the command 'lfm-policy train'",
                stacklevel=2,
            )

    def look(self, trainer: Trainer, *, last: bool) -> float:
        """Roll out if it is time to; returns the seconds that it took.

        Args:
            trainer: of the part in work; the policy has the EMA of its weights.
            last: whether this is the last step of the run.
        """
        if self._rollouts is None:
            return 0.0
        run, step, begin = self._run, self._run.steps_done, time.perf_counter()
        due = last or step % self._options.every == 0
        looked = run.progress.looked == step  # it goes on from a checkpoint of this step
        if not due or looked or not self._whole(trainer.n):
            return 0.0
        if run.accelerator.is_main_process:
            try:
                with _same_random_numbers():
                    score = self._rollouts.roll_out(
                        self._policy(trainer),
                        self._options,
                        each_step=self._raise_if_interrupted,
                        quiet=run.quiet,
                    )
            except _StoppedError:
                return 0.0  # the training stops too, and looks when it goes on
            except (EvaluationError, InputError) as error:
                self._rollouts = None
                warnings.warn(f"no more rollouts in this training: {error}", stacklevel=2)
                return time.perf_counter() - begin
            self._note(score, trainer)
        run.progress.looked = step
        return time.perf_counter() - begin

    def _whole(self, n: int) -> bool:
        """Whether all blocks but n, which is in work, have learnt something."""
        progress = self._run.progress
        started = progress.encoder.steps or self._run.config.init.gives_blocks
        others = [record.steps for m, record in enumerate(progress.records, 1) if m != n]
        return bool(started) or all(others)

    def _policy(self, trainer: Trainer) -> Policy:
        run = self._run
        model = copy.deepcopy(run.model)
        model.load_state_dict(run.state_with_ema(trainer))
        return Policy(run.config, run.spec, model, run.data.normalizer, device=run.device)

    def _raise_if_interrupted(self) -> None:
        if self._run.interrupt:
            raise _StoppedError

    def _note(self, score: Score, trainer: Trainer) -> None:
        """Log a score, and keep the policy if it is the best so far."""
        run, best = self._run, read_best(self._run.folder)
        found = {} if best is None else best.training.get(SELECTION, {})
        alike = ("episodes", "seed_start", "nfe")  # what was measured otherwise says nothing
        better = any(found.get(key) != getattr(score, key) for key in alike)
        if not better:
            better = score.rank() > (found.get("successes") or 0, found.get("score", 0.0))
        if better:
            run.write_best(trainer, {SELECTION: asdict(score)})
        rate = {} if score.successes is None else {"success_rate": score.successes / score.episodes}
        values = {**rate, **asdict(score), "best": better}
        run.write("rollout", **{k: v for k, v in values.items() if v is not None})


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    """Leave all global generators as they were."""
    state, numbers = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numbers)
