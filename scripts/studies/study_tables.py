"""Tables and plots of a study, from the cells that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from pieces import Sampler, Study
from results_page import put_table, table_lines

from lfm_policy.evaluation import mcnemar_exact, paired_bootstrap, wilson_interval
from lfm_runtime.disk.files import atomic_file

matplotlib.use("Agg", force=False)


@dataclass(frozen=True)
class Row:
    """One model in a table, with the samplers it is evaluated with."""

    label: str
    model: str
    samplers: tuple[Sampler, ...]


@dataclass(frozen=True)
class Part:
    """One table of results.md.

    Attributes:
        name: of its markers in results.md and of its plot.
        rows: models and samplers.
        compare: pairs of (model, sampler) to test against each other, first minus second.
        plot: draws the picture.
        seconds: True for a table of seconds per model, False for one of what policies achieve.
        seeds: of the trainings.
    """

    name: str
    rows: tuple[Row, ...]
    plot: Callable[[Part, Study], Figure]
    compare: tuple[tuple[tuple[str, Sampler], tuple[str, Sampler]], ...] = ()
    seconds: bool = False
    seeds: tuple[int, ...] = ()


FEW_EVALUATIONS = 16
"""Samplers of more are drawn in a colour of their own."""
LEGEND_COLUMNS = 4

COLUMNS = (
    "policy | NFE | score | success | 95% interval | per seed: score / success | "
    "parameters | gradient steps | training + push-forward or teacher samples (s)"
)
SECONDS_COLUMNS = (
    "model | runs | gradient steps | training (s) | push-forward (s) | teacher samples (s) | "
    "in all (s) | gradient steps per second"
)


def write_part(part: Part, study: Study, results: Path) -> None:
    """Put one table between its markers in results.md, and its plot beside it."""
    lines = seconds_lines(part, study) if part.seconds else policy_lines(part, study)
    missing = sum(
        study.known(row.model, sampler, seed) is None
        for row in part.rows
        for sampler, seed in product(row.samplers, part.seeds)
    )
    if missing:
        lines.append(f"\n{missing} of this table's cells are not measured yet.")
    tests = [line for pair in part.compare if (line := compare(part, study, *pair))]
    if tests:
        lines.append("\n" + "\n".join(tests))
    put_table(results, part.name, lines)
    path = results / "results" / f"{part.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        part.plot(part, study).savefig(partial, format="png", dpi=120)


def policy_lines(part: Part, study: Study) -> list[str]:
    """Return the table of what policies achieve, a row per model and sampler."""
    rows = [
        (row.label, cells_of(study, row.model, sampler, part.seeds))
        for row in part.rows
        for sampler in row.samplers
    ]
    return table_lines(COLUMNS, [table_row(label, cells) for label, cells in rows if cells])


def seconds_lines(part: Part, study: Study) -> list[str]:
    """Return the table of where the seconds go, a row per model, and what all runs took."""
    rows = []
    runs, hours = 0, 0.0
    for row in part.rows:
        cells = cells_of(study, row.model, row.samplers[0], part.seeds)
        if not cells:
            continue
        train, push, steps = seconds_of(cells)
        runs += len(cells)
        hours += len(cells) * (train + push) / 3600
        student = bool(study.models[row.model].teacher)
        shown = ("", f"{push:.0f}") if student else (f"{push:.0f}", "")
        seconds = (f"{train:.0f}", *shown, f"{train + push:.0f}", f"{steps / train:.0f}")
        rows.append((row.label, len(cells), f"{steps:,}", *seconds))
    took = f"\n{runs} runs took {hours:.1f} hours of one thread."
    return [*table_lines(SECONDS_COLUMNS, rows), took]


def seconds_of(cells: Sequence[dict[str, Any]]) -> tuple[float, float, int]:
    """Return seconds of training, seconds of push-forward or samples, and gradient steps."""
    training = [cell["training"] for cell in cells]
    train, push = (
        float(np.mean([t[key] for t in training])) for key in ("train_seconds", "push_seconds")
    )
    return train, push, training[0]["steps"]


def cells_of(
    study: Study, model: str, sampler: Sampler, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the known cells of the given training seeds."""
    cells = [study.known(model, sampler, seed) for seed in seeds]
    return [cell for cell in cells if cell is not None]


def pooled(cells: Sequence[dict[str, Any]]) -> tuple[float, int, int]:
    """Return mean score, successes and episodes of all seeds together."""
    scores = [c["summary"]["score"] for c in cells]
    successes = sum(c["summary"]["successes"] for c in cells)
    return float(np.mean(scores)), successes, sum(c["summary"]["n"] for c in cells)


def sampler_label(cell: dict[str, Any]) -> str:
    """Return the number of evaluations, and the solver and noise where they are not the usual."""
    solver = "" if cell["solver"] == "euler" else f" {cell['solver']}"
    noise = "" if cell["noise_scale"] in (0.0, 1.0) else f", noise {cell['noise_scale']:g}"
    return f"{cell['nfe']:g}{solver}{noise}"


def success_cells(successes: int, n: int) -> tuple[str, str]:
    """Return the cells of a success and of its interval."""
    low, high = wilson_interval(successes, n)
    return f"{successes}/{n} = {successes / n:.3f}", f"{low:.3f} to {high:.3f}"


def table_row(label: str, cells: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return one row: all seeds pooled, and each for itself."""
    score, successes, n = pooled(cells)
    each = ", ".join(
        f"{c['summary']['score']:.3f} / {c['summary']['success_rate']:.3f}" for c in cells
    )
    rate = success_cells(successes, n)
    return (label, sampler_label(cells[0]), f"{score:.3f}", *rate, each, *training_cells(cells))


def training_cells(cells: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """Return the cells of what a training was: parameters, gradient steps, seconds."""
    train, push, steps = seconds_of(cells)
    parameters = cells[0]["training"]["parameters"]["total"]
    return f"{parameters:,}", f"{steps:,}", f"{train:.0f} + {push:.0f}"


def compare(
    part: Part, study: Study, first: tuple[str, Sampler], second: tuple[str, Sampler]
) -> str:
    """Return a line that compares two cells on the same episodes of the same training seeds."""
    pairs = [(study.known(*first, seed), study.known(*second, seed)) for seed in part.seeds]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not both:
        return ""
    scores = [
        [x for cell in cells for x in cell["max_reward"]] for cells in zip(*both, strict=True)
    ]
    wins = [
        [bit == "1" for cell in cells for bit in cell["success"]]
        for cells in zip(*both, strict=True)
    ]
    low, high = paired_bootstrap(scores[0], scores[1])
    p = mcnemar_exact(wins[0], wins[1])
    difference = np.mean(scores[0]) - np.mean(scores[1])
    success = np.mean(wins[0]) - np.mean(wins[1])
    names = " against ".join(
        f"{m} ({sampler_label(c)})" for (m, _), c in zip((first, second), both[0], strict=True)
    )
    return (
        f"- {names}, {len(both)} seed(s): score {difference:+.3f} [{low:+.3f}, {high:+.3f}], "
        f"success {success:+.3f}, McNemar p = {p:.2g}"
    )


def plot_settings(part: Part, study: Study) -> Figure:
    """Score and success of many models below each other; the last samplers of each row."""
    shown = []
    for row in part.rows:
        cells_of_row = [cells_of(study, row.model, s, part.seeds) for s in row.samplers[-2:]]
        if known := [cells for cells in cells_of_row if cells]:
            shown.append((row.label, known))
    figure = Figure(figsize=(10, 0.25 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for position, (_, samplers) in enumerate(shown):
        for cells in samplers:
            score, successes, n = pooled(cells)
            rates, spread = rates_of([(successes, n)])
            few = cells[0]["nfe"] <= FEW_EVALUATIONS
            style = {"color": "C0" if few else "C1", "marker": "o"}
            at = position + (-0.12 if few else 0.12)
            axes[0].plot(score, at, **style)
            axes[1].errorbar(rates, at, xerr=spread, capsize=2, **style)
    for ax, name in zip(axes, ("score", "success"), strict=True):
        ax.set_xlabel(name)
        ax.grid(alpha=0.3)
    axes[0].set_yticks(range(len(shown)), [label for label, _ in shown])
    axes[0].invert_yaxis()
    if any(cells[0]["nfe"] > FEW_EVALUATIONS for _, samplers in shown for cells in samplers):
        for color, what in (("C0", f"up to {FEW_EVALUATIONS} evaluations"), ("C1", "more")):
            axes[1].plot([], [], color=color, marker="o", linestyle="", label=what)
        axes[1].legend(fontsize=8)
    return figure


def plot_seconds(part: Part, study: Study) -> Figure:
    """Seconds of training and of push-forward or teacher samples, a bar per model."""
    figure = Figure(figsize=(9, 0.35 * len(part.rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    rows = [(row, cells_of(study, row.model, row.samplers[0], part.seeds)) for row in part.rows]
    bars = [(row.label, *seconds_of(cells)) for row, cells in rows if cells]
    for position, (_, train, push, _) in enumerate(bars):
        axes.barh(position, train, color="C0", label="" if position else "training")
        what = "" if position else "push-forward or teacher samples"
        axes.barh(position, push, left=train, color="C1", label=what)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("seconds on one CPU thread")
    if bars:
        axes.legend(fontsize=8)
    return figure


def _against(
    xlabel: str,
    value: Callable[[dict[str, Any]], float],
    *,
    by_sampler: bool = False,
    log_ticks: Sequence[int] = (),
) -> Callable[[Part, Study], Figure]:
    """Return what draws score and success against a number, a line per label or per sampler."""

    def plot(part: Part, study: Study) -> Figure:
        lines: dict[str, list[tuple[float, float, int, int]]] = {}
        for row in part.rows:
            for sampler in row.samplers:
                if cells := cells_of(study, row.model, sampler, part.seeds):
                    key = f"NFE {sampler_label(cells[0])}" if by_sampler else row.label
                    lines.setdefault(key, []).append((value(cells[0]), *pooled(cells)))
        legend_rows = -(-len(lines) // LEGEND_COLUMNS)
        figure = Figure(figsize=(10, 4 + 0.2 * legend_rows), layout="constrained")
        axes = figure.subplots(1, 2)
        for ax, name in zip(axes, ("score", "success"), strict=True):
            if len(lines) > 10:  # the usual cycle has no more colours
                ax.set_prop_cycle(color=matplotlib.colormaps["tab20"](range(20)))
            ax.set(ylabel=name, xlabel=xlabel)
            ax.grid(alpha=0.3)
        for key, points in lines.items():
            x, scores, *counts = zip(*sorted(points), strict=True)
            line = axes[0].plot(x, scores, marker="o", label=key)[0]
            rates, spread = rates_of(list(zip(*counts, strict=True)))
            axes[1].errorbar(x, rates, yerr=spread, marker="o", capsize=3, color=line.get_color())
        for ax in axes if log_ticks else ():
            ax.set_xscale("log")
            ax.set_xticks(log_ticks, [str(tick) for tick in log_ticks])
            ax.minorticks_off()
        if lines:  # below the axes, where it covers no point
            figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=8)
        return figure

    return plot


def rates_of(counts: Sequence[tuple[int, int]]) -> tuple[list[float], list[list[float]]]:
    """Return rates of (successes, n), and how far their intervals reach below and above them."""
    rates = [successes / n for successes, n in counts]
    intervals = [wilson_interval(successes, n) for successes, n in counts]
    return rates, [
        [r - i.low for r, i in zip(rates, intervals, strict=True)],
        [i.high - r for r, i in zip(rates, intervals, strict=True)],
    ]


PLOTS: dict[str, Callable[[Part, Study], Figure]] = {
    "settings": plot_settings,
    "seconds": plot_seconds,
    "nfe": _against(
        "network evaluations per chunk (NFE)",
        lambda cell: cell["nfe"],
        log_ticks=[1, 2, 4, 8, 16, 32, 64],
    ),
    "blocks": _against(
        "number of blocks N", lambda cell: len(cell["training"]["block_steps"]), by_sampler=True
    ),
    "parameters": _against(
        "parameters", lambda cell: cell["training"]["parameters"]["total"], by_sampler=True
    ),
    "noise": _against("scale of the initial noise", lambda cell: cell["noise_scale"]),
    "steps": _against("gradient steps", lambda cell: cell["training"]["steps"]),
}
"""By the names that pusht_studies.yaml gives them."""
