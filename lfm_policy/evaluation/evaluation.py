"""Evaluation of one policy with one or several numbers of network evaluations: rollouts, times."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from tqdm.auto import tqdm

from lfm_policy.config import EvalConfig, ExperimentConfig
from lfm_policy.config.sampler import Evaluations, SamplerChanges
from lfm_policy.environments import TASK_FIELD, reading_of
from lfm_policy.errors import InputError
from lfm_policy.evaluation.environments import choose_workers, make_environments
from lfm_policy.evaluation.episodes import (
    EpisodeResult,
    RolloutConfig,
    no_success_message,
    settled,
    successes_of,
)
from lfm_policy.evaluation.report import Cell
from lfm_policy.evaluation.rollouts import rollout
from lfm_policy.evaluation.statistics import bootstrap_mean, wilson_interval
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.policy.pipeline import plan_sampler

if TYPE_CHECKING:
    from lfm_policy.policy import Policy
    from lfm_policy.training.selection import Score


class NoSuccessReportedWarning(UserWarning):
    """An environment never said whether an episode succeeded."""


def evaluate(
    policy: EvaluatedPolicy,
    config: RolloutConfig,
    *,
    n_episodes: int,
    nfes: Sequence[Evaluations | None] = (None,),
    quiet: bool = False,
    runner: Callable[..., list[EpisodeResult]] = rollout,
    **sampler: Unpack[SamplerChanges],
) -> tuple[list[Cell], float]:
    """Roll out and time a policy for each number of network evaluations.

    Warns with `NoSuccessReportedWarning` where the environment never says whether an episode
    succeeded: then there are scores, and no successes.

    Args:
        policy: its sampler is left as the last entry of ``nfes`` set it.
        config: where and how.
        n_episodes: episodes 0..n-1 per cell, and per task of a policy of several.
        nfes: network evaluations per chunk, or of each block, block 1 first; None: as configured.
        quiet: no progress bar.
        runner: runs the episodes; `rollout` or something with its interface, such as a `RayRunner`.
        sampler: others than configured, see `Policy.set_sampler`; evaluations are ``nfes``.

    Returns:
        One cell per entry of ``nfes``, and the wall-clock seconds of it all.

    Raises:
        InputError: a number of evaluations does not fit, or the environment does not.
    """
    start = time.perf_counter()
    # All are tried first: a number that does not fit should not cost the time of the others.
    samplers: list[SamplerChanges] = [{**sampler, "nfe": nfe} for nfe in nfes]
    for one in samplers:
        policy.set_sampler(**one)
    cells = []
    for one in samplers:
        policy.set_sampler(**one)
        cells.append(
            evaluate_present(policy, config, n_episodes=n_episodes, quiet=quiet, runner=runner)
        )
    return settled_cells(cells, config.env_id), time.perf_counter() - start


def evaluate_present(
    policy: EvaluatedPolicy,
    config: RolloutConfig,
    *,
    n_episodes: int,
    quiet: bool = False,
    runner: Callable[..., list[EpisodeResult]] = rollout,
) -> Cell:
    """Roll out and time a policy with the sampler that it has; see `evaluate`.

    Raises:
        InputError: the environment does not fit.
    """
    sampler, tasks = policy.sampler, config.by_task(policy.spec.tasks)
    label = "rollouts" if sampler.nfe is None else f"NFE {sampler.nfe:g}"
    results: list[EpisodeResult] = []
    total = n_episodes * len(tasks)
    with tqdm(total=total, desc=label, unit="episode", disable=quiet) as bar:
        for one in tasks:
            results += runner(policy, one, range(n_episodes), on_episode=partial(_advance, bar))
    # An adaptive solver takes as many as it needs.
    nfe = float(np.average([r.nfe for r in results], weights=[max(r.chunks, 1) for r in results]))
    return Cell(
        sampler=replace(sampler, nfe=nfe),
        latency=measure_latency(policy),
        episodes=results,
    )


def settled_cells(cells: Sequence[Cell], env_id: str) -> list[Cell]:
    """Return results of one environment, settled, see `lfm_policy.evaluation.episodes.settled`.

    Warns with `NoSuccessReportedWarning` where nothing is said of success in any of them.
    """
    reported = any(result.success is not None for cell in cells for result in cell.episodes)
    if not reported:
        warnings.warn(no_success_message(env_id), NoSuccessReportedWarning, stacklevel=3)
    return [replace(cell, episodes=settled(cell.episodes, reported=reported)) for cell in cells]


class SelectionRollouts:
    """Rolls a policy out while it is trained, see `lfm_policy.training.selection`."""

    def prepare(self, config: ExperimentConfig) -> None:
        """Plan the evaluations, and make the environment once.

        Raises:
            InputError: ``eval.nfe`` does not fit the blocks, or there is no environment, or its
                simulator is missing.
        """
        env, flow = config.env, config.flow
        if nfe := config.eval.nfe:
            try:
                plan_sampler(config.sampler, flow.n_blocks, method=flow.method.create(), nfe=nfe)
            except InputError as error:
                raise InputError(f"eval.nfe: {error}") from None
        if not env.id:
            raise InputError(
                f"eval.every is {config.eval.every}, but there is no environment to roll out in: "
                "set env.id, such as env.id=lfm/PushT-v0, or eval.every=0"
            )
        if TASK_FIELD in env.id:
            if not config.dataset.tasks:
                raise InputError(
                    f"env.id is '{env.id}', but without dataset.tasks nothing says what stands for "
                    f"{TASK_FIELD}"
                )
            return  # which tasks there are is known when the data are read
        make_environments(
            env.id,
            1,
            processes=False,
            max_episode_steps=env.max_episode_steps,
            options=dict(env.options),
            render_size=None,
            module_folder=None,
            reading=reading_of(env),
        ).close()

    def roll_out(
        self, policy: Policy, options: EvalConfig, *, each_step: Callable[[], None], quiet: bool
    ) -> Score:
        """Return how good a policy is in ``options.episodes`` episodes.

        Raises:
            InputError: the environment does not fit the policy, or ``options.nfe`` its blocks.
            EvaluationError: processes of environments died again and again.
        """
        from lfm_policy.training.selection import Score

        if options.nfe:
            policy.set_sampler(nfe=options.nfe)
        config = RolloutConfig.of(policy.config.env, seed_start=options.seed_start)
        tasks = config.by_task(policy.spec.tasks)
        num_envs, processes = choose_workers(tasks[0].env_id)
        each = max(1, options.episodes // len(tasks))
        results: list[EpisodeResult] = []
        with tqdm(
            total=each * len(tasks), desc="rollouts", unit="episode", disable=quiet, leave=False
        ) as bar:
            for one in tasks:
                results += rollout(
                    policy,
                    replace(one, num_envs=min(num_envs, each), processes=processes),
                    range(each),
                    on_episode=partial(_advance, bar),
                    on_step=lambda running, envs: each_step(),
                )
        successes, rewards = successes_of(results), [result.max_reward for result in results]
        interval = (
            bootstrap_mean(rewards)
            if successes is None
            else wilson_interval(sum(successes), len(successes))
        )
        return Score(
            episodes=len(results),
            successes=None if successes is None else sum(successes),
            score=float(np.mean(rewards)),
            low=interval.low,
            high=interval.high,
            seed_start=options.seed_start,
            # An adaptive solver is asked for none, and found again as that.
            nfe=0 if policy.sampler.nfe is None else int(results[0].nfe),
        )


def _advance(bar: tqdm, result: EpisodeResult) -> None:
    bar.update()


def measure_latency(policy: EvaluatedPolicy, *, repeats: int = 100) -> dict[str, Any]:
    """Time whole policy calls: normalise, encode, sample, un-normalise.

    Args:
        policy: what is timed, with its current sampler.
        repeats: timed calls, after a tenth as many (at least 5) untimed ones.

    Returns:
        ``median_ms``, ``p95_ms``, ``ms_per_evaluation`` (median over NFE), ``threads``,
        ``device``, ``repeats``.
    """
    batch = policy.fake_batch()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, *policy.chunk_shape, generator=generator).to(policy.device)
    for _ in range(max(5, repeats // 10)):
        result = policy.sample(batch, noise=noise)
    seconds = []
    for _ in range(repeats):
        _synchronise(policy.device)
        start = time.perf_counter()
        result = policy.sample(batch, noise=noise)
        _synchronise(policy.device)
        seconds.append(time.perf_counter() - start)
    median, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return {
        "median_ms": float(median),
        "p95_ms": float(p95),
        "ms_per_evaluation": float(median) / result.nfe,
        "threads": torch.get_num_threads(),
        "device": str(policy.device),
        "repeats": repeats,
    }


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
