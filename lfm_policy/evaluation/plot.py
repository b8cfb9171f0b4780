"""The picture of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lfm_policy.evaluation.report import Cell
from lfm_policy.files import atomic_file

matplotlib.use("Agg", force=False)

FRAMES_SHOWN = 8


def plot_evaluation(
    path: Path, title: str, cells: Sequence[Cell], last_frames: Mapping[int, np.ndarray]
) -> None:
    """Write a PNG: success and score against NFE, rewards of all episodes, last frames.

    Args:
        path: the PNG.
        title: its headline.
        cells: one per sampler.
        last_frames: last frame by episode number, of the last cell; may be empty.
    """
    shown = list(last_frames.items())[:FRAMES_SHOWN]
    figure = Figure(figsize=(11, 7.5 if shown else 4.5), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(
        2 if shown else 1, max(len(shown), 1) * 3, height_ratios=[3, 1.6] if shown else [1]
    )
    third = max(len(shown), 1)
    _plot_success(figure.add_subplot(grid[0, :third]), cells)
    _plot_rewards(figure.add_subplot(grid[0, third : 2 * third]), cells)
    _plot_time(figure.add_subplot(grid[0, 2 * third :]), cells)
    successes = {result.episode: result.success for result in cells[-1].episodes}
    for k, (episode, frame) in enumerate(shown):
        axes = figure.add_subplot(grid[1, 3 * k : 3 * k + 3])
        axes.imshow(frame)
        axes.set_title(f"{episode}: {'success' if successes[episode] else 'failure'}", fontsize=8)
        axes.set_axis_off()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _plot_success(axes: matplotlib.axes.Axes, cells: Sequence[Cell]) -> None:
    positions = np.arange(len(cells))
    summaries = [cell.summary() for cell in cells]
    rates = np.array([s["success_rate"] for s in summaries])
    intervals = np.array([s["success_interval"] for s in summaries])
    errors = np.abs(intervals.T - rates)
    axes.bar(positions - 0.2, rates, width=0.4, label="success, 95% interval", color="tab:blue")
    axes.errorbar(positions - 0.2, rates, yerr=errors, fmt="none", color="black", capsize=3)
    scores = [s["score"] for s in summaries]
    axes.bar(
        positions + 0.2, scores, width=0.4, label="score (mean max reward)", color="tab:orange"
    )
    for x, value in [
        *zip(positions - 0.2, rates, strict=True),
        *zip(positions + 0.2, scores, strict=True),
    ]:
        axes.annotate(f"{value:.2f}", (x, 0.02), ha="center", fontsize=7, color="white")
    axes.set_xticks(positions, [f"{cell.nfe:g}" for cell in cells])
    axes.set_xlabel("network evaluations per chunk")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.15), frameon=False)


def _plot_rewards(axes: matplotlib.axes.Axes, cells: Sequence[Cell]) -> None:
    for cell in cells:
        rewards = np.sort([result.max_reward for result in cell.episodes])
        share = np.arange(1, len(rewards) + 1) / len(rewards)
        axes.step(rewards, share, where="post", label=f"NFE {cell.nfe:g}")
    axes.set_xlabel("maximum reward of an episode")
    axes.set_ylabel("share of episodes at or below it")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=7)


def _plot_time(axes: matplotlib.axes.Axes, cells: Sequence[Cell]) -> None:
    for cell in cells:
        steps = np.sort([result.steps for result in cell.episodes if result.success])
        share = np.arange(1, len(steps) + 1) / len(cell.episodes)
        longest = max(result.steps for result in cell.episodes)
        axes.step(
            [0, *steps, longest],
            [0, *share, share[-1] if len(share) else 0],
            where="post",
            label=f"NFE {cell.nfe:g}",
        )
    axes.set_xlabel("environment steps")
    axes.set_ylabel("share of episodes solved by then")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=7)
