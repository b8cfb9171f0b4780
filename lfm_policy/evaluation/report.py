"""What an evaluation found: numbers for programs, a table for people."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import torch

from lfm_policy.evaluation.episodes import EpisodeResult, RolloutConfig, successes_of
from lfm_policy.evaluation.statistics import wilson_interval
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.text.numbers import rounded
from lfm_policy.text.samplers import evaluations_of, numbers
from lfm_policy.text.tables import TextTable
from lfm_policy.version import __version__
from lfm_runtime.policy.sampler import Sampler


@dataclass(frozen=True)
class Cell:
    """Results of one policy with one sampler on one set of episodes.

    Attributes:
        sampler: its ``nfe`` is the mean over chunks.
        latency: see `lfm_policy.evaluation.evaluation.measure_latency`.
        episodes: results, in the order of their numbers.
    """

    sampler: Sampler
    latency: Mapping[str, Any]
    episodes: Sequence[EpisodeResult]

    @property
    def nfe(self) -> float:
        """Network evaluations per chunk, on average."""
        assert self.sampler.nfe is not None
        return self.sampler.nfe

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "summary": self.summary(),
            **self.sampler.to_dict(),
            "latency": dict(self.latency),
            "episodes": [_episode(result) for result in self.episodes],
        }

    def summary(self) -> dict[str, Any]:
        """Return successes with their Wilson 95% interval, score and mean final coverage.

        What is said of successes is None where the environment does not report any. ``score`` is
        the mean over episodes of the maximum reward; ``restarted_episodes`` are those
        that began again because a process of environments had died. Of a policy of several tasks
        the same is said of all ``tasks``, and ``mean_over_tasks``.
        """
        return {**self._counts(), **self._by_task()}

    def _counts(self) -> dict[str, Any]:
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

    @property
    def tasks(self) -> tuple[str, ...]:
        """What the policy was told to do, in the order in which it did."""
        return tuple(dict.fromkeys(r.task for r in self.episodes if r.task))

    def of_task(self, task: str) -> Cell:
        """Return the results in one task alone."""
        return replace(self, episodes=[r for r in self.episodes if r.task == task])

    def _by_task(self) -> dict[str, Any]:
        """Return what is said of every task, and the mean over tasks; empty without tasks."""
        if not self.tasks:
            return {}
        names = ("n", "successes", "success_rate", "success_interval", "score", "mean_steps")
        found = {}
        for task in self.tasks:
            summary = self.of_task(task)._counts()
            found[task] = {name: summary[name] for name in names}
        rates = [summary["success_rate"] for summary in found.values()]
        mean = None if None in rates else float(np.mean(rates))
        return {"tasks": found, "mean_over_tasks": mean}


def _episode(result: EpisodeResult) -> dict[str, Any]:
    values = asdict(result)
    if not result.task:
        del values["task"]
    return values


def evaluation_to_dict(
    policy: EvaluatedPolicy, config: RolloutConfig, cells: Sequence[Cell], wall_seconds: float
) -> dict[str, Any]:
    """Return everything that `eval.json` holds; plain JSON values."""
    training = policy.info
    return {
        "checkpoint": training.get("checkpoint", ""),
        "checkpoint_sha256": training.get("sha256", ""),
        "training_complete": training.get("complete"),
        "also_trained_on": training.get("also_trained_on"),
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
        "cells": [cell.to_dict() for cell in cells],
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
            evaluations_of(cell.sampler),
            cell.sampler.solver,
            *success,
            rounded(summary["score"], 3),
            "-" if coverage is None else rounded(coverage, 3),
            f"{cell.latency['median_ms']:.2f} ({cell.latency['p95_ms']:.2f})",
        )
    return table


def tasks_table(title: str, cells: Sequence[Cell]) -> TextTable:
    """Return the successes in every task, one column per sampler, and the mean over tasks."""
    headers = [f"NFE {evaluations_of(cell.sampler)}" for cell in cells]
    table = TextTable("task", *headers, "steps", title=title)
    summaries = [cell.summary() for cell in cells]
    for task in cells[0].tasks:
        said = [summary["tasks"][task] for summary in summaries]
        counts = ["-" if s["successes"] is None else f"{s['successes']}/{s['n']}" for s in said]
        table.add_row(task, *counts, f"{said[-1]['mean_steps']:.0f}")
    rates = [summary["mean_over_tasks"] for summary in summaries]
    means = ["-" if rate is None else rounded(rate, 3, limits=(0, 1)) for rate in rates]
    table.add_row("mean", *means, f"{summaries[-1]['mean_steps']:.0f}")
    return table


def footnote(policy: EvaluatedPolicy, config: RolloutConfig, cells: Sequence[Cell]) -> str:
    """Return the lines below the table: what was evaluated, and how."""
    info, latency = policy.info, cells[0].latency
    counts = ", ".join(f"{k} {v:,}" for k, v in policy.parameter_counts().items())
    n = len(cells[0].episodes) // max(1, len(cells[0].tasks))
    of_tasks = f" in each of {len(cells[0].tasks)} tasks" if cells[0].tasks else ""
    lines = [
        f"{config.env_id}, seeds {config.seed_start} to {config.seed_start + n - 1}, noise seed "
        f"{config.noise_seed}, n = {n}{of_tasks}, EMA weights, "
        f"{', '.join(numbers(cells[0].sampler))}, "
        f"{policy.n_action_steps} of {policy.chunk_shape[0]} actions executed",
        f"parameters: {counts}",
    ]
    if info.get("imported"):
        lines.append(f"trained by {info['imported'].get('from', 'another framework')}")
    elif info.get("steps") is not None:
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
