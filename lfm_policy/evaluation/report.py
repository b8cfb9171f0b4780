"""What an evaluation found: numbers for programs, a table for people."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from lfm_policy.evaluation.episodes import EpisodeResult, RolloutConfig, successes_of
from lfm_policy.evaluation.statistics import wilson_interval
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.text.numbers import rounded
from lfm_policy.text.samplers import evaluations
from lfm_policy.text.tables import TextTable
from lfm_policy.version import __version__


@dataclass(frozen=True)
class Cell:
    """Results of one policy with one sampler on one set of episodes.

    Attributes:
        solver: name of the ODE solver.
        nfe: network evaluations per chunk, all blocks (mean over chunks for adaptive solvers).
        nfe_per_block: the same for each block, index 0 = block 1 (data side); None for adaptive.
        block_times: where its steps end between t = 1 and t = 0; [] for equal steps.
        latency: see `lfm_policy.evaluation.evaluation.measure_latency`.
        episodes: results, in the order of their numbers.
        noise_scale: standard deviation of the noise that sampling started from.
        renoise: share of each block's noise that chunks were given.
        guidance: weight of the observation, see `lfm_policy.flow.GuidedNetwork`.
    """

    solver: str
    nfe: float
    nfe_per_block: list[int] | None
    latency: Mapping[str, Any]
    episodes: Sequence[EpisodeResult]
    noise_scale: float = 1.0
    renoise: float = 0.0
    guidance: float = 1.0
    block_times: Sequence[Sequence[float]] = ()

    def summary(self) -> dict[str, Any]:
        """Return successes with their Wilson 95% interval, score and mean final coverage.

        What is said of successes is None where the environment does not report any. ``score`` is
        the mean over episodes of the maximum reward; ``restarted_episodes`` are those
        that began again because a process of environments had died.
        """
        n = len(self.episodes)
        told = successes_of(self.episodes)
        successes = None if told is None else sum(told)
        coverages = [r.final_coverage for r in self.episodes if r.final_coverage is not None]
        return {
            "n": n,
            "successes": successes,
            "success_rate": None if successes is None else successes / n,
            "success_interval": None if successes is None else list(wilson_interval(successes, n)),
            "score": float(np.mean([result.max_reward for result in self.episodes])),
            "final_coverage": float(np.mean(coverages)) if coverages else None,
            "mean_steps": float(np.mean([result.steps for result in self.episodes])),
            "restarted_episodes": [r.episode for r in self.episodes if r.restarts],
        }


def evaluation_to_dict(
    policy: EvaluatedPolicy, config: RolloutConfig, cells: Sequence[Cell], wall_seconds: float
) -> dict[str, Any]:
    """Return everything that `eval.json` holds; plain JSON values."""
    training = policy.info
    return {
        "checkpoint": training.get("checkpoint", ""),
        "checkpoint_sha256": training.get("sha256", ""),
        "training_complete": training.get("complete"),
        "weights": "exponential moving average",
        "config": asdict(config),
        "n_action_steps": policy.n_action_steps,
        "parameters": policy.parameter_counts(),
        "gradient_steps": training.get("steps"),
        "train_seconds": training.get("train_seconds"),
        "push_seconds": training.get("push_seconds"),
        "training_threads": training.get("threads"),
        "evaluation_seconds": wall_seconds,
        "versions": {
            "lfm-policy": __version__,
            "torch": torch.__version__,
            "gymnasium": gymnasium.__version__,
            "python": platform.python_version(),
        },
        "cells": [{"summary": cell.summary(), **asdict(cell)} for cell in cells],
    }


def results_table(title: str, cells: Sequence[Cell]) -> TextTable:
    """Return the table that the command line prints, one row per sampler."""
    headers = ("NFE", "solver", "success", "rate", "95% interval", "score", "coverage", "ms (p95)")
    table = TextTable(*headers, title=title)
    for cell in cells:
        summary = cell.summary()
        coverage = summary["final_coverage"]
        success = ("-", "-", "-")
        if summary["successes"] is not None:
            low, high = (rounded(end, 3, limits=(0, 1)) for end in summary["success_interval"])
            success = (
                f"{summary['successes']}/{summary['n']}",
                rounded(summary["success_rate"], 3, limits=(0, 1)),
                f"{low}..{high}",
            )
        table.add_row(
            evaluations(cell.nfe, cell.nfe_per_block, cell.block_times),
            cell.solver,
            *success,
            rounded(summary["score"], 3),
            "-" if coverage is None else rounded(coverage, 3),
            f"{cell.latency['median_ms']:.2f} ({cell.latency['p95_ms']:.2f})",
        )
    return table


def footnote(policy: EvaluatedPolicy, config: RolloutConfig, cells: Sequence[Cell]) -> str:
    """Return the lines below the table: what was evaluated, and how."""
    info, latency = policy.info, cells[0].latency
    counts = ", ".join(f"{k} {v:,}" for k, v in policy.parameter_counts().items())
    lines = [
        f"{config.env_id}, seeds {config.seed_start} to "
        f"{config.seed_start + len(cells[0].episodes) - 1}, noise seed {config.noise_seed}, "
        f"n = {len(cells[0].episodes)}, EMA weights, noise scale {cells[0].noise_scale:g}, "
        f"{'' if not cells[0].renoise else f'renoise {cells[0].renoise:g}, '}"
        f"{'' if cells[0].guidance == 1 else f'guidance {cells[0].guidance:g}, '}"
        f"{policy.n_action_steps} of {policy.chunk_shape[0]} actions executed",
        f"parameters: {counts}",
    ]
    if info.get("steps") is not None:
        lines.append(
            f"training: {info['steps']:,} gradient steps, {info['train_seconds']:.0f} s + "
            f"{info['push_seconds']:.0f} s push-forward"
            + ("" if info.get("complete") else " (NOT COMPLETE)")
        )
    lines.append(
        "score: mean over episodes of the largest reward; coverage: mean in the last step; ms: "
        f"median (p95) per chunk at batch 1, {latency['threads']} thread(s), {latency['device']}"
    )
    restarted = sorted({e for cell in cells for e in cell.summary()["restarted_episodes"]})
    if restarted:
        lines.append(
            f"{len(restarted)} episodes began again because a process of environments had died: "
            f"{', '.join(map(str, restarted))}"
        )
    return "\n".join(lines)
