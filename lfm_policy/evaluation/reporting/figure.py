"""The picture of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lfm_policy.evaluation.episodes import EpisodeResult, describe_outcome
from lfm_policy.evaluation.report import Cell
from lfm_policy.evaluation.statistics import bootstrap_mean, wilson_interval
from lfm_policy.pictures import Theme, draw_interval, drawing, figure, legend_right, save
from lfm_policy.pictures.figures import WIDTH
from lfm_policy.text.numbers import percent, rounded
from lfm_policy.text.samplers import evaluations_of

FRAMES_SHOWN = 12
_COLUMNS = 6

_LINES = ("-", "--", ":", "-.")
"""Samplers of one policy have its colour, so they differ in their lines."""


def plot_evaluation(
    path: Path,
    title: str,
    cells: Sequence[Cell],
    last_frames: Mapping[int, np.ndarray],
    *,
    student_blocks: int = 0,
) -> None:
    """Write `evaluation_figure` as PNG."""
    with drawing() as theme:
        save(evaluation_figure(title, cells, last_frames, theme, student_blocks), path)


def evaluation_figure(
    title: str,
    cells: Sequence[Cell],
    last_frames: Mapping[int, np.ndarray],
    theme: Theme,
    student_blocks: int = 0,
) -> Figure:
    """Return a figure with one row, or one line, per sampler, all in the policy's colour:

    - success, score and milliseconds per chunk, each with its interval;
    - the largest rewards of all episodes, and how many are solved after how many steps;
    - last frames, with seed and outcome.

    Args:
        title: its headline.
        cells: one per sampler.
        last_frames: last frame by episode number, of the last cell; may be empty.
        theme: colours.
        student_blocks: of a student; see `lfm_policy.pictures.Theme.policy_colour`.
    """
    shown = list(last_frames.items())[:FRAMES_SHOWN]
    frame_rows = -(-len(shown) // _COLUMNS)
    heights = [0.8 + 0.42 * len(cells), 2.4] + [0.45 + 2.3 * frame_rows] * bool(shown)
    colour = theme.policy_colour(student_blocks)
    picture = figure(WIDTH, sum(heights), title, _subtitle(cells), theme=theme)
    parts: Any = picture.subfigures(len(heights), 1, height_ratios=heights)
    _draw_numbers(parts[0], cells, colour, theme)
    _draw_episodes(parts[1], cells, colour, theme)
    if shown:
        results = {result.episode: result for result in cells[-1].episodes}
        films = [(results[episode], frame) for episode, frame in shown]
        _draw_frames(parts[2], films, f"Last frames, {_name(cells[-1], cells)}", frame_rows)
    return picture


def _subtitle(cells: Sequence[Cell]) -> str:
    episodes, latency = cells[0].episodes, cells[0].latency
    threads = f"{latency['threads']} thread{'s' * (latency['threads'] != 1)}"
    return (
        f"n = {len(episodes)} episodes, seeds {episodes[0].seed} to {episodes[-1].seed}. "
        "95% intervals: of shares by Wilson, of the score by bootstrap.\n"
        "Score: mean of the episodes' largest rewards. Times: median and 95% quantile of a chunk, "
        f"{latency['device']}, {threads}."
    )


def _name(cell: Cell, cells: Sequence[Cell]) -> str:
    """Return what tells a sampler from the others."""
    spent, solver = evaluations_of(cell.sampler), cell.sampler.solver
    words = f"{spent} evaluation{'s' * (cell.nfe != 1)}"
    alike = len({other.sampler.solver for other in cells}) == 1
    return words if alike else f"{solver}, {words}"


def _draw_numbers(part: Any, cells: Sequence[Cell], colour: str, theme: Theme) -> None:
    success, score, time = part.subplots(1, 3, sharey=True)
    summaries = [cell.summary() for cell in cells]
    for row, (cell, summary) in enumerate(zip(cells, summaries, strict=True)):
        if summary["success_rate"] is not None:
            rate, interval = summary["success_rate"], summary["success_interval"]
            draw_interval(success, row, rate, interval, colour=colour, text=percent(rate))
        value = summary["score"]
        interval = bootstrap_mean([result.max_reward for result in cell.episodes])
        draw_interval(score, row, value, interval, colour=colour, text=rounded(value, 3))
        median, slow = cell.latency["median_ms"], cell.latency["p95_ms"]
        draw_interval(time, row, median, (median, slow), colour=colour, text=f"{median:.3g}")
    success.set(title="Success", xlabel="share of episodes solved", xlim=(0, 1))
    success.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    if any(summary["success_rate"] is None for summary in summaries):
        _say(success, "success: not reported", theme)
    score.set(title="Score", xlabel="mean largest reward")
    # Rewards of other environments than ours may be of any size.
    if all(0 <= result.max_reward <= 1 for cell in cells for result in cell.episodes):
        score.set_xlim(0, 1)
    time.set(title="Time", xlabel="milliseconds per chunk")
    time.set_xlim(0, 1.1 * max(cell.latency["p95_ms"] for cell in cells))
    success.set_ylim(len(cells) - 0.5, -0.6)
    success.set_yticks(range(len(cells)), [_name(cell, cells) for cell in cells], color=theme.ink)
    for axes in (success, score, time):
        axes.grid(axis="y", visible=False)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)


def _draw_episodes(part: Any, cells: Sequence[Cell], colour: str, theme: Theme) -> None:
    rewards, times = part.subplots(1, 2)
    told = all(cell.summary()["successes"] is not None for cell in cells)
    everything = [result for cell in cells for result in cell.episodes]
    longest = max(result.steps for result in everything)
    gained = [result.max_reward for result in everything]
    band = len(cells) <= 2  # more would hide one another
    for number, cell in enumerate(cells):
        n = len(cell.episodes)
        line = {
            "color": colour,
            "linestyle": _LINES[number % len(_LINES)],
            "alpha": 1 - 0.65 * number / max(len(cells), 2),
            "label": _name(cell, cells),
        }
        values, counts = np.unique([r.max_reward for r in cell.episodes], return_counts=True)
        x = np.array([min(0.0, *gained), *values, max(1.0, *gained)])
        _draw_share(rewards, x, np.array([0, *np.cumsum(counts), n]), n, line, band)
        if told:
            steps = sorted(r.solved_at or r.steps for r in cell.episodes if r.success)
            solved = np.array([*range(len(steps) + 1), len(steps)])
            _draw_share(times, np.array([0, *steps, longest]), solved, n, line, band)
    rewards.set(title="Rewards", xlabel="largest reward of an episode")
    rewards.set_ylabel("episodes at or below it")
    times.set(title="Steps", xlabel="environment steps", ylabel="episodes solved by then")
    if not told:
        _say(times, "success: not reported", theme)
    for axes in (rewards, times):
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    if len(cells) > 1:
        legend_right(times)


def _draw_share(
    axes: Axes, x: np.ndarray, counts: np.ndarray, n: int, line: Mapping[str, Any], band: bool
) -> None:
    """Draw which share of n episodes ``counts`` are at x; with ``band``, the 95% intervals."""
    axes.step(x, counts / n, where="post", linewidth=1.5, **line)
    if band:
        low, high = np.array([wilson_interval(int(count), n) for count in counts]).T
        axes.fill_between(x, low, high, step="post", color=line["color"], alpha=0.1, linewidth=0)


def _draw_frames(
    part: Any, films: Sequence[tuple[EpisodeResult, np.ndarray]], title: str, rows: int
) -> None:
    part.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=10.5)
    grid = list(part.subplots(rows, _COLUMNS, squeeze=False).flat)
    for axes in grid:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_visible(False)
    for axes, (result, frame) in zip(grid, films, strict=False):
        axes.set_visible(True)
        axes.set_anchor("N")
        axes.imshow(frame)
        outcome = describe_outcome(result).replace(", ", "\n")
        axes.set_xlabel(f"seed {result.seed}\n{outcome}", fontsize=8.5, linespacing=1.3)


def _say(axes: Axes, text: str, theme: Theme) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=theme.muted)
