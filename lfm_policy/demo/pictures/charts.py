"""Charts of the page: success, score and time of the policies, and their loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lfm_policy.demo.results import PolicyResult
from lfm_policy.evaluation.statistics import Interval, bootstrap_mean
from lfm_policy.pictures import Theme, draw_interval, legend_below, log_axis
from lfm_policy.pictures.figures import WIDTH
from lfm_policy.text.numbers import percent, rounded


def score_interval(policy: PolicyResult) -> Interval:
    """Return the bootstrap 95% interval of a policy's score."""
    return bootstrap_mean([result.max_reward for result in policy.evaluation.cell.episodes])


def results_figure(policies: Sequence[PolicyResult], theme: Theme) -> Figure:
    """Draw success, score and milliseconds per chunk, one row per policy."""
    figure = Figure(figsize=(WIDTH, 0.95 + 0.42 * len(policies)), layout="constrained")
    success, score, time = figure.subplots(1, 3, sharey=True, gridspec_kw={"wspace": 0.12})
    rows = list(range(len(policies)))
    for row, policy in zip(rows, policies, strict=True):
        colour = theme.policy_colour(policy.student_blocks)
        cell = policy.evaluation.cell
        summary = cell.summary()
        if summary["success_rate"] is None:
            success.annotate("not reported", (0.5, row), ha="center", va="center")
        else:
            rate, interval = summary["success_rate"], summary["success_interval"]
            draw_interval(success, row, rate, interval, colour=colour, text=percent(rate))
        mean = summary["score"]
        interval = score_interval(policy)
        draw_interval(score, row, mean, interval, colour=colour, text=rounded(mean, 3))
        median, slow = cell.latency["median_ms"], cell.latency["p95_ms"]
        draw_interval(time, row, median, (median, slow), colour=colour, text=f"{median:.2f}")
    for axes, title, label in (
        (success, "Success", "share of starts solved, 95% interval"),
        (score, "Score", "mean largest reward, 95% interval"),
        (time, "Time", "milliseconds per chunk"),
    ):
        axes.set(title=title, xlabel=label)
        axes.grid(axis="y", visible=False)
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    for axes in (success, score):
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    success.set_xticklabels(["0", "25%", "50%", "75%", "100%"])
    score.set_xticklabels(["0", "0.25", "0.5", "0.75", "1"])
    time.set_xlim(0, 1.1 * max(policy.evaluation.cell.latency["p95_ms"] for policy in policies))
    success.set_ylim(len(policies) - 0.5, -0.55)
    success.set_yticks(rows, [policy.title for policy in policies], color=theme.ink)
    return figure


def loss_figure(policies: Sequence[PolicyResult], theme: Theme) -> Figure:
    """Draw the training and validation losses of every block, one panel per policy."""
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    panels: Any = figure.subplots(1, len(policies), squeeze=False)[0]
    for axes, policy in zip(panels, policies, strict=True):
        blocks = sorted({record["block"] for record in policy.metrics})
        for block in blocks:
            colour = theme.block_colour(block)
            label = f"block {block}" if len(blocks) > 1 else "training"
            axes.plot(*_curve(policy, "train", block), color=colour, linewidth=1.4, label=label)
            axes.plot(*_curve(policy, "validation", block), "o", color=colour, markersize=3.4)
        if any(record["kind"] == "validation" for record in policy.metrics):
            axes.plot([], [], "o", color=theme.muted, markersize=3.4, label="validation")
        axes.set_title(policy.title)
        axes.set_xlabel("gradient steps")
        log_axis(axes)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(lambda steps, _: f"{steps:,.0f}")
        axes.tick_params(which="both", length=0)
        legend_below(axes)
    panels[0].set_ylabel("loss")
    return figure


def _curve(policy: PolicyResult, kind: str, block: int) -> tuple[list[int], list[float]]:
    own = [
        record
        for record in policy.metrics
        if record["kind"] == kind and record["block"] == block and "loss" in record
    ]
    return [record["step"] for record in own], [record["loss"] for record in own]
