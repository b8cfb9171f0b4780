"""The picture of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from lfm_policy.evaluation.episodes import outcome_of
from lfm_policy.evaluation.report import Cell
from lfm_runtime.disk.files import atomic_file

matplotlib.use("Agg", force=False)

FRAMES_SHOWN = 8
_NO_SUCCESS = "success: not reported"


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
    figure = Figure(figsize=(11, 6.4 if shown else 4.5), layout="constrained")
    figure.suptitle(title)
    parts: Any = figure.subfigures(2, 1, height_ratios=[3, 1.2]) if shown else [figure, None]
    top, bottom = parts
    for axes, draw in zip(
        top.subplots(1, 3), (_plot_success, _plot_rewards, _plot_time), strict=True
    ):
        draw(axes, cells)
    if bottom is not None:
        results = {result.episode: result for result in cells[-1].episodes}
        row = bottom.subplots(1, FRAMES_SHOWN)
        for axes in row:
            axes.set_axis_off()
        for axes, (episode, frame) in zip(row, shown, strict=False):
            axes.imshow(frame)
            axes.set_title(f"{episode}: {outcome_of(results[episode])}", fontsize=8)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _plot_success(axes: matplotlib.axes.Axes, cells: Sequence[Cell]) -> None:
    positions = np.arange(len(cells))
    summaries = [cell.summary() for cell in cells]
    bars: list[tuple[float, float]] = []
    if any(s["successes"] is None for s in summaries):
        axes.plot([], [], " ", label=_NO_SUCCESS)
    else:
        rates = np.array([s["success_rate"] for s in summaries])
        intervals = np.array([s["success_interval"] for s in summaries])
        errors = np.abs(intervals.T - rates)
        axes.bar(positions - 0.2, rates, width=0.4, label="success, 95% interval", color="tab:blue")
        axes.errorbar(positions - 0.2, rates, yerr=errors, fmt="none", color="black", capsize=3)
        bars += zip(positions - 0.2, rates, strict=True)
    scores = [s["score"] for s in summaries]
    axes.bar(
        positions + 0.2, scores, width=0.4, label="score (mean max reward)", color="tab:orange"
    )
    for x, value in [*bars, *zip(positions + 0.2, scores, strict=True)]:
        axes.annotate(f"{value:.2f}", (x, 0.02), ha="center", fontsize=7, color="white")
    axes.set_xticks(positions, [f"{cell.nfe:g}" for cell in cells])
    axes.set_xlabel("network evaluations per chunk")
    # Rewards of other environments than ours may be of any size.
    axes.set_ylim(min(0.0, *scores), max(1.0, *scores) * 1.2)
    axes.legend(fontsize=7, loc="upper left")


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
    if any(cell.summary()["successes"] is None for cell in cells):
        axes.set_axis_off()
        axes.text(0.5, 0.5, _NO_SUCCESS, ha="center", va="center", fontsize=8)
        return
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
