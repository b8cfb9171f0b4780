"""What a check found, in tables and one paragraph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.text import Text

from lfm_policy.checking.demonstrations import HELD_OUT
from lfm_policy.text.numbers import percent
from lfm_policy.text.samplers import numbers
from lfm_policy.text.tables import TextTable, terminal_columns
from lfm_runtime.policy.sampler import Sampler

if TYPE_CHECKING:
    from lfm_policy.checking.result import PolicyCheck

DIMENSIONS_SHOWN = 32
"""Rows of the table of dimensions, those with the largest errors; all are in ``check.json``."""

STEPS_SHOWN = 7

SHORT = {"repeat": "repeat last", "mean": "mean chunk", "zero": "zeros"}
"""Names of the baselines in tables and pictures."""


def print_check(check: PolicyCheck) -> None:
    """Print everything to standard output."""
    console = Console(width=terminal_columns(), highlight=False)

    def say(text: str, style: str = "") -> None:
        # Text, because rich would read the brackets of `action[0]` as markup.
        console.print(Text(text, style))

    policy, loop = check.policy, check.open_loop
    sampler = Sampler.from_dict(policy, f"{policy['name']}: ")
    spent = "adaptive" if sampler.nfe is None else f"{sampler.nfe:g}"
    say(f"{policy['name']}: {policy['checkpoint']}")
    say(
        f"checked on {check.n_episodes} episode{'s' if check.n_episodes > 1 else ''}, "
        f"{loop.n_instants} instants, {loop.n_samples} samples of each "
        f"({sampler.solver}, NFE {spent}, {', '.join(numbers(sampler))}, seed {check.seed})"
    )
    known = check.demonstrations.kind == HELD_OUT
    say(f"data: {check.demonstrations.remark}", "" if known else "yellow")
    for table, below in (
        (errors_table(check), _BELOW_ERRORS),
        (steps_table(check), ""),
        (dimensions_table(check), _below_dimensions(check)),
        (blocks_table(check), _BELOW_STUDENT if check.student else _BELOW_BLOCKS),
        (observations_table(check), _BELOW_OBSERVATIONS),
    ):
        if table is not None:
            print()
            table.print()
            if below:
                say(below, "dim")
    print()
    say(check.verdict, "yellow" if check.findings else "")


def errors_table(check: PolicyCheck) -> TextTable:
    """Return the errors of the policy and of the baselines."""
    loop = check.open_loop
    headers = ("", "error", "95% interval", "policy minus this", "horizon")
    table = TextTable(*headers, title="error of the executed actions, normalised")
    ways = [
        ("one sample", loop.sample),
        (f"mean of {loop.n_samples} samples", loop.mean_of_samples),
        (f"best of {loop.n_samples} samples", loop.best_of_samples),
    ]
    if loop.training is not None:
        ways.append(("in training episodes", loop.training))
    for name, errors in ways:
        table.add_row(name, _n(errors.mean), _span(errors.interval), "", _n(errors.ahead.mean()))
    for key, errors in loop.baselines.items():
        _, interval = loop.sample.minus(errors)
        row = (_n(errors.mean), _span(errors.interval), _span(interval), _n(errors.ahead.mean()))
        table.add_row(SHORT[key], *row)
    return table


def steps_table(check: PolicyCheck) -> TextTable:
    """Return the errors of actions further and further ahead."""
    loop = check.open_loop
    known = np.flatnonzero(np.isfinite(loop.sample.per_step))
    shown = known[np.unique(np.linspace(0, len(known) - 1, STEPS_SHOWN).astype(int))]
    title = f"error by step ahead (the first {check.n_action_steps} are executed)"
    table = TextTable("", *(str(step + 1) for step in shown), title=title)
    ways = [("one sample", loop.sample), *((SHORT[k], e) for k, e in loop.baselines.items())]
    for name, errors in ways:
        table.add_row(name, *(_n(errors.per_step[step]) for step in shown))
    return table


def dimensions_table(check: PolicyCheck) -> TextTable:
    """Return errors, spread and range of every dimension, in the robot's units."""
    loop, spread = check.open_loop, check.spread
    names = list(loop.baselines)
    n = len(loop.sample.per_dim)
    left = f", {DIMENSIONS_SHOWN} of {n}" if n > DIMENSIONS_SHOWN else ""
    headers = ("", "error", *(SHORT[k] for k in names), "spread", "of data", "outside")
    table = TextTable(*headers, title=f"by dimension, in the robot's units{left}")
    order = np.argsort(-loop.sample.per_dim * check.units.scale, kind="stable")
    for d in sorted(order[:DIMENSIONS_SHOWN].tolist()):
        table.add_row(
            f"action[{d}]",
            _n(loop.sample.per_dim[d]),
            *(_n(loop.baselines[k].per_dim[d]) for k in names),
            _n(spread.per_dim[d]),
            percent(spread.of_data[d], 1),
            percent(check.outside.per_dim[d], 1),
        )
    return table


def blocks_table(check: PolicyCheck) -> TextTable | None:
    """Return the losses of the blocks; None for exports."""
    if not check.blocks:
        return None
    here = "held-out" if check.student or check.demonstrations.kind == HELD_OUT else "checked"
    headers = ("block", "training", here, "ignoring obs.", "own chunks")
    table = TextTable(*headers, title="loss of every block, EMA weights")
    for block in check.blocks:
        known = [block.training, block.held_out, block.ignorant, block.own]
        if check.student:
            known[:2] = block.recorded["loss"], block.recorded["validation_loss"]
        table.add_row(str(block.block), *(_n(value) for value in known))
    return table


def observations_table(check: PolicyCheck) -> TextTable | None:
    """Return what becomes of the policy when observations are exchanged; None without any."""
    if not check.shuffled:
        return None
    headers = ("", "error grows by", "95% interval", "chunk moves")
    table = TextTable(*headers, title="an observation is shown as it was in another episode")
    for entry in check.shuffled:
        row = f"{entry.increase:+.3g}", _span(entry.interval), percent(entry.moved)
        table.add_row(entry.key, *row)
    return table


_BELOW_ERRORS = (
    "mean absolute error, mean over episodes; the policy is compared in pairs; horizon: also what "
    "is never executed"
)
_BELOW_STUDENT = "a student's losses are distances to its teacher, as its training wrote them down"
_BELOW_BLOCKS = (
    "ignoring obs.: the best affine map that does not see the observation; own chunks: what would "
    "be left if demonstrations were what the policy believes"
)
_BELOW_OBSERVATIONS = "chunk moves: 100% as far as with all observations of the other instant"


def _below_dimensions(check: PolicyCheck) -> str:
    clipped = "" if check.unclipped else ", after clipping"
    lines = (
        "spread: standard deviation of the samples of one observation, and over that of the data; "
        f"outside: executed actions beyond the demonstrated range{clipped}, which "
        f"{percent(check.outside.chunks, 1)} of the chunks leave. Spread is "
        f"{percent(check.spread.share)} of the square error of a sample (50% if samples were "
        "distributed as the demonstrations)"
    )
    if check.joins is None:
        return lines
    return (
        f"{lines}; at {check.joins.n} joins of chunks actions step {check.joins.ratio:.1f} times "
        "as far as demonstrated"
    )


def _n(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.2g}"


def _span(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{low:.3g}..{high:.3g}"
