"""The picture of a check: predicted against demonstrated chunks, and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

from lfm_policy.checking.demonstrations import HELD_OUT
from lfm_policy.checking.report import SHORT
from lfm_policy.pictures import Theme, figure, legend_below

if TYPE_CHECKING:
    from lfm_policy.checking.result import PolicyCheck

EPISODES_DRAWN = 3
"""The one with the smallest error, the median, and the one with the largest."""
DIMENSIONS_DRAWN = 4
SAMPLES_DRAWN = 8
CHUNKS_DRAWN = 25
"""Of an episode, from its beginning."""
ROWS_DRAWN = 12
"""Dimensions, and observations, in the panels of numbers."""

_WIDTH = 12.0
_PLANE, _DIMENSION, _NUMBERS = 3.9, 1.9, 3.2
_LEGEND = 0.35


def check_figure(check: PolicyCheck, theme: Theme) -> Figure:
    """Return a figure; to be called inside `lfm_policy.pictures.drawing`. From top to bottom:

    - for actions of two dimensions, paths of chunks in the plane;
    - action dimensions over the steps of a few episodes: the demonstrated ones, and samples of
      chunks fanned out, where they are executed and beyond;
    - errors by step ahead and by dimension, losses of the blocks, exchanged observations.
    """
    episodes = _episodes(check)
    order = np.argsort(-check.open_loop.sample.per_dim * check.units.scale, kind="stable")
    n_dims = len(order)
    dims = sorted(order[:DIMENSIONS_DRAWN].tolist())
    planes = [_PLANE] if n_dims == 2 else []
    heights = [*planes, *[_DIMENSION] * len(dims), _LEGEND]
    loop = check.open_loop
    which = (
        f", the {len(dims)} dimensions of {n_dims} with the largest error"
        if n_dims > len(dims)
        else ""
    )
    drawn = min(SAMPLES_DRAWN, loop.n_samples)
    made = figure(
        _WIDTH,
        sum(heights) + _NUMBERS,
        f"{check.policy['name']}: predicted and demonstrated chunks",
        f"{check.demonstrations.remark}\n{check.n_episodes} episodes, {loop.n_instants} instants, "
        f"{loop.n_samples} samples of each ({drawn} drawn){which}; noise scale "
        f"{check.policy['noise_scale']:g}, NFE {check.policy['nfe'] or 'adaptive'}; errors are "
        "normalised",
        theme=theme,
    )
    parts = made.add_gridspec(2, 1, height_ratios=[sum(heights), _NUMBERS])
    grid = parts[0].subgridspec(len(heights), len(episodes), height_ratios=heights)
    for column, (episode, kind) in enumerate(episodes):
        error = loop.sample.per_episode[_compared(check).index(episode)]
        title = f"Episode {episode}: error {error:.3g}{kind}"
        first: Axes | None = None
        if planes:
            axes = made.add_subplot(grid[0, column])
            _draw_plane(axes, check, episode, theme)
            axes.set_title(title)
            if column == 0:
                axes.set_ylabel("action[1], downwards as in images")
        for row, d in enumerate(dims):
            axes = made.add_subplot(grid[row + len(planes), column], sharex=first)
            first = first or axes
            _draw_dimension(axes, check, episode, d, theme)
            if row == 0 and not planes:
                axes.set_title(title)
            if column == 0:
                axes.set_ylabel(f"action[{d}]")
            if row == len(dims) - 1:
                axes.set_xlabel("step of the episode")
            else:
                axes.tick_params(labelbottom=False)
    legend = made.add_subplot(grid[-1, :])
    legend.set_axis_off()
    assert first is not None
    legend.legend(*first.get_legend_handles_labels(), loc="center", ncols=4)
    _draw_numbers(made, parts[1], check, theme)
    return made


def save_check(check: PolicyCheck, path: Any) -> None:
    """Write the figure as PNG."""
    from lfm_policy.pictures import drawing, save

    with drawing() as theme:
        save(check_figure(check, theme), path)


def _compared(check: PolicyCheck) -> list[int]:
    """Return the episodes that errors are of, in their order."""
    instants = check.instants
    rows = instants.started if instants.started.any() else np.ones(len(instants), bool)
    return [int(e) for e in np.unique(instants.episode[rows])]


def _episodes(check: PolicyCheck) -> list[tuple[int, str]]:
    compared = _compared(check)
    order = np.argsort(check.open_loop.sample.per_episode, kind="stable")
    if len(compared) <= EPISODES_DRAWN:
        return [(episode, "") for episode in compared]
    places = {" (smallest)": 0, " (median)": len(order) // 2, " (largest)": len(order) - 1}
    return [(compared[order[place]], kind) for kind, place in places.items()]


def _chunks(check: PolicyCheck, episode: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the instants of an episode that are drawn, its demonstrated actions, and how many."""
    instants = check.instants
    rows = np.flatnonzero(instants.episode == episode)[:CHUNKS_DRAWN]
    buffer = instants.buffer
    begin, end = buffer.episode_starts[episode], buffer.episode_ends[episode]
    n_steps = min(int(end - begin), int(instants.step[rows[-1]]) + check.n_action_steps)
    action = np.asarray(buffer.arrays["action"][begin : begin + n_steps], dtype=np.float64)
    return rows, action, n_steps


def _policy_colour(check: PolicyCheck, theme: Theme) -> str:
    return theme.policy_colour(len(check.blocks) if check.student else 0)


def _draw_dimension(axes: Axes, check: PolicyCheck, episode: int, d: int, theme: Theme) -> None:
    rows, action, n_steps = _chunks(check, episode)
    instants, colour = check.instants, _policy_colour(check, theme)
    first = instants.obs_steps.shape[1] - 1
    split = first + check.n_action_steps
    executed, beyond = [], []
    for m in rows:
        times = instants.step[m] - first + np.arange(check.samples.shape[2])
        here = int((times < n_steps).sum())
        for sample in check.samples[:SAMPLES_DRAWN, m, :, d]:
            end = min(split, here)
            executed.append(np.column_stack([times[first:end], sample[first:end]]))
            beyond.append(np.column_stack([times[end - 1 : here], sample[end - 1 : here]]))
    axes.add_collection(
        LineCollection(beyond, colors=colour, linewidths=0.5, alpha=0.22, label="never executed")
    )
    steps = np.arange(n_steps)
    axes.plot(steps, action[:, d], color=theme.ink, linewidth=1.6, label="demonstrated")
    axes.add_collection(
        LineCollection(
            executed,
            colors=colour,
            linewidths=0.9,
            alpha=0.55,
            label="samples of the policy, executed",
            zorder=3,
        )
    )
    starts = instants.step[rows]
    axes.plot(
        starts,
        np.ones(len(starts)),
        "|",
        color=theme.muted,
        markersize=6,
        clip_on=False,
        transform=axes.get_xaxis_transform(),
        label="a chunk begins",
    )
    axes.autoscale_view()
    axes.set_xlim(0, max(n_steps - 1, 1))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _draw_plane(axes: Axes, check: PolicyCheck, episode: int, theme: Theme) -> None:
    rows, action, _ = _chunks(check, episode)
    instants, colour = check.instants, _policy_colour(check, theme)
    first = instants.obs_steps.shape[1] - 1
    last = first + check.n_action_steps
    paths = [
        sample[first : min(last, first + int(instants.executed[m].sum()))]
        for m in rows
        for sample in check.samples[:SAMPLES_DRAWN, m]
    ]
    axes.plot(*action.T, color=theme.ink, linewidth=1.6)
    axes.add_collection(LineCollection(paths, colors=colour, linewidths=0.9, alpha=0.5, zorder=3))
    joins = np.array([action[instants.step[m]] for m in rows])
    axes.plot(*joins.T, "o", color=theme.ink, markersize=3.2, zorder=4)
    axes.plot(*action[:1].T, "s", color=theme.ink, markersize=6, zorder=4)
    axes.set_aspect("equal", adjustable="datalim")
    axes.invert_yaxis()
    axes.set_xlabel("action[0] (square: start; dots: a chunk begins)")


def _draw_numbers(made: Figure, place: SubplotSpec, check: PolicyCheck, theme: Theme) -> None:
    panels = [_draw_steps, _draw_dims]
    if any(block.over_ignorant(block.held_out) for block in check.blocks):
        panels.append(_draw_blocks)
    if check.shuffled:
        panels.append(_draw_observations)
    grid = place.subgridspec(1, len(panels))
    for column, draw in enumerate(panels):
        draw(made.add_subplot(grid[0, column]), check, theme)


_STYLES = {"repeat": "--", "mean": ":", "zero": "-."}


def _draw_steps(axes: Axes, check: PolicyCheck, theme: Theme) -> None:
    loop, colour = check.open_loop, _policy_colour(check, theme)
    steps = np.arange(1, len(loop.sample.per_step) + 1)
    axes.axvspan(0.5, check.n_action_steps + 0.5, color=theme.grid, alpha=0.5, linewidth=0)
    for errors, style, label in (
        (loop.sample, "-", "one sample"),
        (loop.mean_of_samples, "--", "mean of samples"),
        (loop.best_of_samples, ":", f"best of {loop.n_samples}"),
    ):
        axes.plot(steps, errors.per_step, style, color=colour, linewidth=1.6, label=label)
    for key, errors in loop.baselines.items():
        label = SHORT[key]
        axes.plot(steps, errors.per_step, _STYLES[key], color=theme.muted, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.5, len(steps) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title("Error by step ahead")
    axes.set_xlabel("step ahead (grey: executed)")
    axes.set_ylabel("normalised error")
    legend_below(axes, columns=2, drop=0.27, fontsize=8)


def _draw_dims(axes: Axes, check: PolicyCheck, theme: Theme) -> None:
    loop, scale = check.open_loop, check.units.scale
    own = loop.sample.per_dim * scale
    order = np.argsort(-own, kind="stable")[:ROWS_DRAWN]
    dims = np.sort(order)
    rows = np.arange(len(dims))
    colour = _policy_colour(check, theme)
    axes.barh(rows, own[dims], height=0.6, color=colour, alpha=0.45, label="one sample")
    for (key, errors), marker in zip(loop.baselines.items(), "|x+", strict=False):
        label = SHORT[key]
        values = (errors.per_dim * scale)[dims]
        axes.plot(
            values, rows, marker, color=theme.ink, markersize=8, markeredgewidth=1.5, label=label
        )
    left = "" if len(dims) == len(own) else f", {len(dims)} of {len(own)}"
    axes.set_title(f"Error by dimension{left}")
    axes.set_xlabel("normalised error")
    _rows(axes, [f"action[{d}]" for d in dims], theme)
    axes.set_xlim(left=0)
    legend_below(axes, columns=2, drop=0.27, fontsize=8)


def _draw_blocks(axes: Axes, check: PolicyCheck, theme: Theme) -> None:
    known = [block for block in check.blocks if block.over_ignorant(block.held_out)]
    here = "held-out" if check.demonstrations.kind == HELD_OUT else "checked"
    for row, block in enumerate(known):
        colour = theme.block_colour(block.block)
        points = (
            (block.own, "|", "own chunks"),
            (block.training, "o", "training"),
            (block.held_out, "D", here),
        )
        for loss, marker, label in points:
            ratio = block.over_ignorant(loss)
            if loss is None or ratio is None:
                continue
            axes.plot(
                [ratio],
                [row],
                marker,
                color=colour,
                markersize=10 if marker == "|" else 7,
                markerfacecolor=theme.surface if marker == "o" else colour,
                markeredgewidth=1.6,
                label=label if row == 0 else None,
            )
            if marker == "D":
                _note(axes, f"{loss:.3g}", ratio, row)
    axes.axvline(1, color=theme.muted, linestyle="--", linewidth=1, label="ignoring")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 1.08))
    axes.set_title("Loss of the blocks")
    axes.set_xlabel("loss / loss ignoring observations")
    _rows(axes, [f"block {block.block}" for block in known], theme)
    legend_below(axes, columns=2, drop=0.27, fontsize=8)


def _draw_observations(axes: Axes, check: PolicyCheck, theme: Theme) -> None:
    shown = sorted(check.shuffled, key=lambda entry: -entry.increase)[:ROWS_DRAWN]
    colour = _policy_colour(check, theme)
    for row, entry in enumerate(shown):
        axes.plot(entry.interval, [row, row], color=colour, linewidth=5, alpha=0.3)
        axes.plot([entry.increase], [row], "o", color=colour, markersize=7)
        _note(axes, f"chunk moves {entry.moved:.0%}", entry.increase, row)
    axes.axvline(0, color=theme.muted, linewidth=1)
    axes.margins(x=0.2)
    left = "" if len(shown) == len(check.shuffled) else f", {len(shown)} of {len(check.shuffled)}"
    axes.set_title(f"What it looks at{left}")
    axes.set_xlabel("error grows by, when shown that\nof another episode")
    _rows(axes, [entry.key for entry in shown], theme)


def _note(axes: Axes, text: str, x: float, row: int) -> None:
    axes.annotate(text, (x, row), (0, 8), textcoords="offset points", ha="center", fontsize=8.5)


def _rows(axes: Axes, names: list[str], theme: Theme) -> None:
    axes.set_yticks(range(len(names)), names, color=theme.ink)
    axes.set_ylim(len(names) - 0.4, -0.7)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
