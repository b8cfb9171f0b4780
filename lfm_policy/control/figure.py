"""The picture of a recorded run."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lfm_policy.control.recording import RecordedEpisode
from lfm_policy.pictures import LIGHT, Theme, figure, legend_right
from lfm_policy.pictures.figures import WIDTH
from lfm_policy.text.numbers import rounded
from lfm_runtime.control.result import CONTINUED, HELD

ACTIONS_DRAWN = 8
"""Action dimensions that are drawn."""

_ROW, _BOTTOM = 1.35, 2.3
_LINES_DRAWN = 120
"""Joins that are drawn through the whole panel; of more than that only the upper ends are."""
_LONGEST_NAME = 18


def recording_figure(
    title: str, episode: RecordedEpisode, theme: Theme = LIGHT, *, run_by: str = ""
) -> Figure:
    """Return a figure of one run:

    - every action dimension over time (at most `ACTIONS_DRAWN`): what was executed, every chunk as
      it was planned, lines where chunks join, and marks where the robot held still, ran past a
      deadline, a limit stepped in, an observation was bad, the robot raised, or the run ended;
    - how long each chunk took, when, and how often, beside the period of the loop;
    - the time between two actions, beside the period that it should be.

    Args:
        title: which run.
        episode: the run.
        theme: colours.
        run_by: policy and robot, for the line below the title.
    """
    n_dims = episode.action.shape[1]
    n = min(n_dims, ACTIONS_DRAWN)
    picture = figure(WIDTH, 0.5 + _ROW * n + _BOTTOM, title, _facts(episode, run_by), theme=theme)
    parts: Any = picture.subfigures(2, 1, height_ratios=[0.5 + _ROW * n, _BOTTOM])
    actions: Any = parts[0].subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    ends = episode.chunks["start"] + episode.chunks["length"]
    last = int(max(episode.steps["step"].max(), ends.max(initial=0)))
    times = episode.step_times(last)
    for dimension, axes in enumerate(actions):
        _draw_action(axes, episode, times, dimension, theme)
    actions[0].set_title(
        "Actions" if n == n_dims else f"Actions, the first {n} of {n_dims} dimensions"
    )
    actions[-1].set_xlabel("seconds")
    legend_right(actions[0])
    latency, histogram, between = parts[1].subplots(1, 3)
    _draw_latency(latency, histogram, episode, theme)
    _draw_ticks(between, episode, theme)
    for axes in (*actions, latency, histogram, between):
        axes.tick_params(length=0)
    return picture


def _facts(episode: RecordedEpisode, run_by: str) -> str:
    """Return the lines below the title: who ran, how it ended, what went wrong how often."""
    outcome, summary = episode.outcome, episode.summary()
    words = [run_by] if run_by else []
    words.append(f"{episode.hz:g} Hz")
    if outcome.seed is not None:
        words.append(f"seed {outcome.seed}")
    if outcome.success is not None:
        words.append("success" if outcome.success else "no success")
    if outcome.max_reward is not None:
        words.append(f"largest reward {rounded(outcome.max_reward)}")
    if outcome.ended is not None:
        words.append(f"ended: {outcome.ended}")
    names = ("actions", "chunks", "held", "continued", "limited", "bad_observations", "failed")
    called = {"continued": "past a deadline", "bad_observations": "bad observations"}
    counts = ", ".join(f"{summary[name]} {called.get(name, name)}" for name in names)
    delay = summary["consumed_max"]
    if delay is not None:
        counts += f", delay at most {delay} action{'s' * (delay != 1)}"
    return f"{', '.join(words)}\n{counts}. Dashed: the period, {1e3 / episode.hz:.3g} ms."


def _draw_action(
    axes: Axes, episode: RecordedEpisode, times: np.ndarray, dimension: int, theme: Theme
) -> None:
    chunks, now = episode.chunks, episode.steps["time"]
    executed = episode.action[:, dimension]
    joins = now[episode.joins()]
    through = len(joins) <= _LINES_DRAWN
    axes.vlines(
        joins,
        0 if through else 0.93,
        1,
        transform=axes.get_xaxis_transform(),
        color=theme.muted,
        linewidth=0.6,
        linestyle=(0, (1, 2)) if through else "-",
        label="chunks join",
        gid="joins",
    )
    planned = [
        np.column_stack([times[start : start + length], actions[:length, dimension]])
        for start, length, actions in zip(
            chunks["start"], chunks["length"], chunks["action"], strict=True
        )
    ]
    # One darker, one lighter, so that they can be told apart where they overlap.
    shades = (theme.policy_colour(), theme.chunk[0])
    for k, label in enumerate(("planned", "planned, every other chunk")):
        lines = LineCollection(planned[k::2], colors=shades[k], linewidths=1.1, label=label)
        axes.add_collection(lines)
    axes.plot(now, executed, color=theme.ink, linewidth=1.3, label="executed")
    for label, chosen, colour, marker in (
        ("held", episode.steps["kind"] == HELD, theme.warning, "s"),
        ("past a deadline", episode.steps["kind"] == CONTINUED, theme.warning, "o"),
        ("limited", episode.steps["limited"] > 0, theme.ink, "x"),
        ("bad observation", episode.steps["obs_valid"] == 0, theme.warning, "v"),
        ("failed", episode.steps["failed"] > 0, theme.warning, "X"),
    ):
        if chosen.any():
            axes.scatter(
                *(now[chosen], executed[chosen]),
                s=22,
                color=colour,
                marker=marker,
                label=label,
                zorder=3,
            )
    axes.axvline(now[-1], color=theme.ink, linewidth=1.2, label="end", gid="end")
    axes.autoscale_view()
    axes.margins(x=0.01)
    name = episode.action_names[dimension] if episode.action_names else f"action[{dimension}]"
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    axes.set_ylabel(short)


def _draw_latency(axes: Axes, histogram: Axes, episode: RecordedEpisode, theme: Theme) -> None:
    chunks, period = episode.chunks, 1e3 / episode.hz
    latency = 1e3 * (chunks["answered_at"] - chunks["asked_at"])
    colour = theme.policy_colour()
    axes.vlines(chunks["taken_at"], 0, latency, color=colour, linewidth=1)
    axes.scatter(chunks["taken_at"], latency, s=10, color=colour)
    axes.axhline(period, color=theme.warning, linewidth=1, linestyle="--", gid="period")
    axes.set(title="Time per chunk", xlabel="seconds", ylabel="milliseconds")
    top = 1.1 * max(period, float(latency.max(initial=0)))
    axes.set_ylim(0, top)
    histogram.hist(latency, bins=30, range=(0, top), color=colour)
    histogram.axvline(period, color=theme.warning, linewidth=1, linestyle="--", gid="period")
    histogram.set(title="Time per chunk, how often", xlabel="milliseconds", ylabel="chunks")
    histogram.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_ticks(axes: Axes, episode: RecordedEpisode, theme: Theme) -> None:
    times, period = episode.steps["time"], 1e3 / episode.hz
    between = 1e3 * np.diff(times)
    axes.plot(times[1:], between, ".-", color=theme.ink, linewidth=0.8, markersize=3)
    axes.axhline(period, color=theme.warning, linewidth=1, linestyle="--", gid="period")
    axes.set(title="Time between actions", xlabel="seconds", ylabel="milliseconds")
    axes.set_ylim(0, 1.1 * max(period, between.max(initial=0)))
