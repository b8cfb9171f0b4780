"""The picture of a training: losses of all blocks, learning rates, speed, wall-clock time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lfm_policy.pictures import Theme, figure, legend_right, log_axis
from lfm_policy.pictures.figures import WIDTH

JOINT = 0
"""Number of the part in which encoder and blocks are trained together."""

_SMOOTHED = 25
"""Records from which on a curve is drawn smoothed, too."""
_PAUSE = 60.0
"""Seconds without a record that are marked, where they are many times more than usual."""


@dataclass(frozen=True)
class Stretch:
    """Records of one part, of steps that follow one another.

    Attributes:
        block: 1 at the data; `JOINT`.
        train: records of kind ``train``.
        validation: records of kind ``validation``.
    """

    block: int
    train: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]


def stretches(metrics: Sequence[Mapping[str, Any]]) -> list[Stretch]:
    """Return the stretches of a run, in their order; a block has several in a prolonged run."""
    found: list[Stretch] = []
    for record in metrics:
        kind = record["kind"]
        if kind not in ("train", "validation") or "loss" not in record:
            continue
        if not found or found[-1].block != record["block"]:
            found.append(Stretch(record["block"], [], []))
        own = found[-1].train if kind == "train" else found[-1].validation
        own.append(record)  # type: ignore[attr-defined]
    return found


def training_figure(
    title: str, subtitle: str, metrics: Sequence[Mapping[str, Any]], theme: Theme
) -> Figure:
    """Return a figure of a run, colours telling blocks: over the gradient steps the losses, above
    learning rate and speed; which step was done when; and rollouts, if there were any.

    Args:
        title: the headline.
        subtitle: what stands below it.
        metrics: records, see `lfm_policy.training.run_folder.metrics`; none need be there.
        theme: colours.
    """
    picture = figure(WIDTH, 5.6, title, subtitle, theme=theme)
    halves: Any = picture.subfigures(2, 1, height_ratios=[3.3, 2.3])
    top, bottom = halves
    losses = top.subplots()
    rollouts = [record for record in metrics if record["kind"] == "rollout"]
    rates, speeds, clock, *others = bottom.subplots(1, 4 if rollouts else 3)
    for axes in others:
        _draw_rollouts(axes, rollouts, theme)
    parts = stretches(metrics)
    _draw_losses(losses, parts, metrics, theme)
    for axes, name in ((rates, "learning_rate"), (speeds, "steps_per_second")):
        for part in parts:
            points = [(r["step"], r[name]) for r in part.train if name in r]
            if points:
                axes.plot(*np.transpose(points), linewidth=1.3, **_style(part.block, points, theme))
        axes.set_ylim(bottom=0)
    rates.set(title="Learning rate", xlabel="gradient steps")
    speeds.set(title="Steps per second", xlabel="gradient steps")
    _draw_clock(clock, metrics, theme)
    for axes in (losses, rates, speeds, *others):
        axes.xaxis.set_major_locator(MaxNLocator(8 if axes is losses else 4, integer=True))
        axes.xaxis.set_major_formatter(lambda steps, _: f"{steps:,.0f}")
    for axes in (losses, rates, speeds, clock, *others):
        axes.tick_params(which="both", length=0)
    return picture


def _draw_losses(
    axes: Axes, parts: Sequence[Stretch], metrics: Sequence[Mapping[str, Any]], theme: Theme
) -> None:
    named: set[int] = set()
    for part in parts:
        points = np.array([(r["step"], r["loss"]) for r in part.train]).reshape(-1, 2)
        style = _style(part.block, points, theme)
        smooth = len(points) >= _SMOOTHED
        if len(points):
            label = None if part.block in named else _name(part.block)
            named.add(part.block)
            style |= {"linewidth": 0.7, "alpha": 0.4} if smooth else {"linewidth": 1.4}
            axes.plot(*points.T, **style, label=None if smooth else label)
            if smooth:
                curve = _smoothed(points[:, 1])
                axes.plot(points[:, 0], curve, color=style["color"], linewidth=1.7, label=label)
        if part.validation:
            held_out = np.array([(r["step"], r["loss"]) for r in part.validation])
            axes.plot(
                *held_out.T,
                "o:",
                color=style["color"],
                markersize=4.5,
                linewidth=0.8,
                markeredgecolor=theme.surface,
                markeredgewidth=0.7,
            )
    if any(part.validation for part in parts):
        axes.plot([], [], "o:", color=theme.muted, markersize=4.5, label="held-out demonstrations")
    if any(len(part.train) >= _SMOOTHED for part in parts):
        axes.plot([], [], color=theme.muted, linewidth=0.7, label="as logged")
    pushes = [record for record in metrics if record["kind"] == "push_forward"]
    for k, record in enumerate(pushes):
        label = None if k else "push-forward, seconds"
        axes.axvline(record["step"], color=theme.muted, linewidth=0.9, linestyle="--", label=label)
        if "seconds" in record:
            axes.text(
                record["step"],
                1.01,
                f"{record['seconds']:.0f} s",
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=theme.muted,
            )
    axes.set(xlabel="gradient steps of all blocks", ylabel="loss")
    axes.set_title("Loss", pad=14)
    losses = [r["loss"] for part in parts for r in (*part.train, *part.validation)]
    if losses and min(losses) > 0:
        log_axis(axes)
    legend_right(axes)


def _draw_rollouts(axes: Axes, rollouts: Sequence[Mapping[str, Any]], theme: Theme) -> None:
    """Draw success, or the score where it is not reported, with its intervals; a ring: the best."""
    told = all("successes" in record for record in rollouts)
    steps = [record["step"] for record in rollouts]
    values = [
        record["successes"] / record["episodes"] if told else record["score"] for record in rollouts
    ]
    axes.plot(steps, values, "o-", color=theme.ink, markersize=3.5, linewidth=0.8)
    lows, highs = ([record[end] for record in rollouts] for end in ("low", "high"))
    axes.vlines(steps, lows, highs, color=theme.muted, linewidth=3, alpha=0.35, gid="intervals")
    if told:
        axes.set_ylim(0, 1.02)
    best = [(s, v) for s, v, r in zip(steps, values, rollouts, strict=True) if r.get("best")]
    if best:
        axes.plot(*best[-1], "o", ms=9, mfc="none", mec=theme.warning, gid="best")
    axes.set(title="Rollouts (ring: best)", xlabel="gradient steps")
    axes.set_ylabel(f"{'success' if told else 'score'}, 95% interval")


def _draw_clock(axes: Axes, metrics: Sequence[Mapping[str, Any]], theme: Theme) -> None:
    """Draw which step was done when; pauses between two sittings are left out, and marked."""
    axes.set(title="Wall-clock time", ylabel="gradient steps")
    timed = [record for record in metrics if isinstance(record.get("time"), float)]
    if len(timed) > 1:
        waited = np.diff([record["time"] for record in timed])
        # A push-forward says how long it took; rollouts take what they take.
        explained = np.array(
            [np.inf if r["kind"] == "rollout" else float(r.get("seconds", 0.0)) for r in timed[1:]]
        )
        usual = max(_PAUSE, 20 * float(np.median(waited)))
        paused = waited - explained > usual
        seconds = np.concatenate([[0.0], np.cumsum(np.where(paused, 0.0, np.maximum(waited, 0)))])
        divisor, unit = _unit(seconds[-1])
        at, steps = seconds / divisor, [record["step"] for record in timed]
        for k, record in enumerate(timed[1:]):
            axes.plot(at[k : k + 2], steps[k : k + 2], color=_colour(record["block"], theme))
        for when, hours in zip(at[:-1][paused], waited[paused] / 3600, strict=True):
            axes.axvline(when, color=theme.warning, linewidth=1, linestyle=":", gid="pause")
            axes.annotate(
                f"paused {hours:.1f} h" if hours >= 1 else f"paused {60 * hours:.0f} min",
                (when, 1),
                (3, -3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                va="top",
                fontsize=7.5,
                color=theme.warning,
            )
        axes.set_xlabel(unit)
        axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda steps, _: f"{steps:,.0f}")


def _unit(seconds: float) -> tuple[float, str]:
    if seconds < 180:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the moving average over a twelfth of the curve, at its ends over what there is."""
    width = max(3, len(values) // 12)
    kernel = np.ones(width)
    total = np.convolve(values, kernel, mode="same")
    return np.asarray(total / np.convolve(np.ones(len(values)), kernel, mode="same"))


def _style(block: int, points: Sequence[Any] | np.ndarray, theme: Theme) -> dict[str, Any]:
    """Return the colour of a curve, and a marker where a line would not be seen."""
    marker = {"marker": ".", "markersize": 6} if len(points) <= 3 else {}
    return {"color": _colour(block, theme), **marker}


def _colour(block: int, theme: Theme) -> str:
    return theme.ink if block == JOINT else theme.block_colour(block)


def _name(block: int) -> str:
    return "encoder and blocks together" if block == JOINT else f"block {block}"
