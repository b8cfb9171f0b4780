"""The picture of a recorded run."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lfm_policy.control.recording import RecordedEpisode
from lfm_runtime.control.result import CONTINUED, HELD

ACTIONS_DRAWN = 8
"""Action dimensions that are drawn."""

_WIDTH, _ROW = 13.0, 2.2


def recording_figure(title: str, episode: RecordedEpisode) -> Figure:
    """Return a figure of one run, everything over seconds, from top to bottom:

    - every action dimension (at most `ACTIONS_DRAWN`): what was executed, every chunk as it was
      planned, and marks where the robot held still, ran past a deadline, a limit stepped in or
      the robot raised;
    - how long each chunk took, and how many actions were executed meanwhile;
    - the time between two actions, beside the period that it should be.
    """
    n = min(episode.action.shape[1], ACTIONS_DRAWN)
    figure = Figure(figsize=(_WIDTH, 1 + _ROW * (n + 2)), layout="constrained")
    figure.suptitle(title)
    axes: Any = figure.subplots(n + 2, 1, sharex=True)
    ends = episode.chunks["start"] + episode.chunks["length"]
    last = int(max(episode.steps["step"].max(), ends.max(initial=0)))
    times = episode.step_times(last)
    for dimension in range(n):
        _draw_action(axes[dimension], episode, times, dimension)
    axes[0].legend(fontsize=7, loc="upper right", ncols=5)
    _draw_chunks(axes[n], episode)
    _draw_ticks(axes[n + 1], episode)
    axes[-1].set_xlabel("seconds")
    return figure


def _draw_action(axes: Axes, episode: RecordedEpisode, times: np.ndarray, dimension: int) -> None:
    chunks = episode.chunks
    planned = zip(chunks["start"], chunks["length"], chunks["action"], strict=True)
    for number, (start, length, actions) in enumerate(planned):
        axes.plot(
            times[start : start + length],
            actions[:length, dimension],
            color="tab:blue" if number % 2 else "tab:cyan",
            linewidth=0.8,
            alpha=0.7,
            label="planned" if number == 0 else None,
        )
    now, executed = episode.steps["time"], episode.action[:, dimension]
    axes.plot(now, executed, color="black", linewidth=1.2, label="executed")
    for label, chosen, color, marker in (
        ("held", episode.steps["kind"] == HELD, "tab:red", "s"),
        ("past its deadline", episode.steps["kind"] == CONTINUED, "tab:orange", "o"),
        ("limited", episode.steps["limited"] > 0, "tab:purple", "x"),
        ("failed", episode.steps["failed"] > 0, "tab:red", "x"),
    ):
        if chosen.any():
            axes.scatter(
                now[chosen], executed[chosen], s=14, color=color, marker=marker, label=label
            )
    axes.set_ylabel(f"action {dimension}")


def _draw_chunks(axes: Axes, episode: RecordedEpisode) -> None:
    chunks = episode.chunks
    latency = 1e3 * (chunks["answered_at"] - chunks["asked_at"])
    axes.vlines(chunks["taken_at"], 0, latency, color="tab:blue", linewidth=1)
    axes.scatter(chunks["taken_at"], latency, s=10, color="tab:blue")
    axes.set_ylabel("ms per chunk")
    axes.set_ylim(bottom=0)
    consumed = axes.twinx()
    consumed.step(
        chunks["taken_at"], chunks["consumed"], where="post", color="tab:orange", linewidth=1
    )
    consumed.set_ylabel("actions meanwhile", color="tab:orange")
    consumed.set_ylim(0, max(1, chunks["consumed"].max(initial=0)) * 1.2)


def _draw_ticks(axes: Axes, episode: RecordedEpisode) -> None:
    times = episode.steps["time"]
    between = 1e3 * np.diff(times)
    axes.plot(times[1:], between, color="tab:green", linewidth=1)
    axes.axhline(1e3 / episode.hz, color="black", linewidth=0.6, linestyle="--")
    axes.set_ylabel("ms between actions")
    axes.set_ylim(0, 1.2 * max(1e3 / episode.hz, between.max(initial=0)))
