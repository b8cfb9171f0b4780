"""Evaluation of one policy, with one or several numbers of network evaluations."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from tqdm.auto import tqdm

from lfm_policy.evaluation.episodes import (
    EpisodeResult,
    RolloutConfig,
    no_success_message,
    settled,
)
from lfm_policy.evaluation.latency import measure_latency
from lfm_policy.evaluation.report import Cell
from lfm_policy.evaluation.rollouts import rollout
from lfm_policy.evaluation.subject import EvaluatedPolicy


class NoSuccessReportedWarning(UserWarning):
    """An environment never said whether an episode succeeded."""


def evaluate(
    policy: EvaluatedPolicy,
    config: RolloutConfig,
    *,
    n_episodes: int,
    nfes: Sequence[int | None] = (None,),
    solver: str | None = None,
    noise_scale: float | None = None,
    quiet: bool = False,
    runner: Callable[..., list[EpisodeResult]] = rollout,
) -> tuple[list[Cell], float]:
    """Roll out and time a policy for each number of network evaluations.

    Warns with `NoSuccessReportedWarning` where the environment never says whether an episode
    succeeded: then there are scores, and no successes.

    Args:
        policy: its sampler is left as the last entry of ``nfes`` set it.
        config: where and how.
        n_episodes: episodes 0..n-1 per cell.
        nfes: network evaluations per chunk; None: as configured.
        solver: another solver than the configured one.
        noise_scale: another standard deviation of the initial noise than the configured one.
        quiet: no progress bar.
        runner: runs the episodes; `rollout` or something with its interface, such as a `RayRunner`.

    Returns:
        One cell per entry of ``nfes``, and the wall-clock seconds of it all.

    Raises:
        InputError: a number of evaluations does not fit, or the environment does not.
    """
    start = time.perf_counter()
    # All are tried first: a number that does not fit should not cost the time of the others.
    for nfe in nfes:
        policy.set_sampler(solver=solver, nfe=nfe, noise_scale=noise_scale)
    cells = []
    for nfe in nfes:
        policy.set_sampler(solver=solver, nfe=nfe, noise_scale=noise_scale)
        label = "rollouts" if policy.nfe is None else f"NFE {policy.nfe}"
        with tqdm(total=n_episodes, desc=label, unit="episode", disable=quiet) as bar:
            results = runner(policy, config, range(n_episodes), on_episode=partial(_advance, bar))
        cells.append(
            Cell(
                solver=policy.solver,
                nfe=float(np.mean([result.nfe for result in results])),
                noise_scale=policy.noise_scale,
                nfe_per_block=None if policy.nfe_per_block is None else [*policy.nfe_per_block],
                latency=measure_latency(policy),
                episodes=results,
            )
        )
    reported = any(result.success is not None for cell in cells for result in cell.episodes)
    if not reported:
        warnings.warn(no_success_message(config.env_id), NoSuccessReportedWarning, stacklevel=2)
    cells = [replace(cell, episodes=settled(cell.episodes, reported=reported)) for cell in cells]
    return cells, time.perf_counter() - start


def _advance(bar: tqdm, result: EpisodeResult) -> None:
    bar.update()
