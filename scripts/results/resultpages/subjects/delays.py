"""Joining chunks that come late: success, score and jerk against the delay."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_policy.evaluation import paired_bootstrap
from resultpages.numbers import signed, three
from resultpages.pictures import Panel, Picture, Series
from resultpages.rates import Rate, Rollouts
from resultpages.tables import table

LABELS = {
    "wait": "stand still and wait",
    "replace": "replace",
    "ensemble": "temporal ensembling",
    "prefix": "prefix conditioning",
}
"""Ways to join chunks, and what they are to readers."""


@dataclass(frozen=True)
class Joined(Rollouts):
    """One way to join chunks at one delay."""

    @cached_property
    def solved(self) -> Rate:
        wins = self.column("success")
        return Rate(sum(wins), len(wins))

    @property
    def counts(self) -> str:
        return self.solved.counts

    def mean(self, name: str) -> float:
        return float(np.mean(self.column(name)))

    @property
    def score(self) -> str:
        return three(self.mean("score"))

    @property
    def jerk(self) -> str:
        """Of actions, in 1000 pixels per second cubed."""
        return f"{self.mean('action_jerk') / 1e3:.1f}"

    @property
    def agent_jerk(self) -> str:
        """Of the agent, in 1000 pixels per second cubed."""
        return f"{self.mean('position_jerk') / 1e3:.1f}"

    @property
    def held(self) -> str:
        """Ticks at which the robot had nothing to do."""
        return f"{self.mean('held'):.1f}"

    @property
    def lead(self) -> str:
        """How many actions before the end of a chunk the next one is asked for."""
        return "every step" if self.cell["joining"] == "ensemble" else str(self.cell["lead"] or 0)

    def jerks_of(self, other: Joined) -> str:
        """Return how many times the jerk of actions of another it has."""
        return f"{self.mean('action_jerk') / other.mean('action_jerk'):.1f}"

    def score_against(self, other: Joined) -> str:
        """Return the interval of the difference in score on the same episodes."""
        found = paired_bootstrap(self.column("score"), other.column("score"))
        return f"{signed(found.low)} to {signed(found.high)}"


class Delays:
    """The cells of delays.json, called with a joining and a delay in milliseconds."""

    def __init__(self, data: Path) -> None:
        found = json.loads((data / "delays.json").read_text())
        self.n = found["episodes"]
        self.hz = f"{found['hz']:g}"
        self._cells = {(cell["joining"], cell["delay_ms"]): Joined(cell) for cell in found["cells"]}

    def __call__(self, joining: str, delay: float) -> Joined:
        """Return what was measured.

        Raises:
            InputError: nothing was.
        """
        if (joining, delay) not in self._cells:
            raise InputError(f"delays.json has no cell of {joining!r} at {delay:g} ms")
        return self._cells[joining, delay]

    @property
    def delays(self) -> list[float]:
        return sorted({delay for _, delay in self._cells})

    def line(self, joining: str) -> list[Joined]:
        """Return the cells of a joining by rising delay."""
        return [self(joining, delay) for delay in self.delays if (joining, delay) in self._cells]

    def grid(self, name: str) -> str:
        """Return one attribute of `Joined`, a row for each joining, a column for each delay."""
        heads = ["delay (ms)", *(f"{delay:g}" for delay in self.delays)]
        rows = [
            (label, *(getattr(one, name) for one in self.line(joining)))
            for joining, label in LABELS.items()
        ]
        return table(" | ".join(heads), rows)

    def table(self) -> str:
        """Return what each joining achieves at each delay."""
        rows = []
        for delay in self.delays:
            for joining, label in LABELS.items():
                one = self(joining, delay)
                rows.append(
                    (
                        *(f"{delay:g}", label, one.solved.counts, one.solved.interval, one.score),
                        *(one.jerk, one.held),
                    )
                )
        heads = "delay (ms) | joining | solved | 95% interval | score | jerk of actions"
        return table(f"{heads} | ticks held", rows)

    def more(self) -> str:
        """Return what else was measured, and the comparison with replacing."""
        rows = []
        for delay in self.delays:
            replacing = self("replace", delay)
            for joining, label in LABELS.items():
                one = self(joining, delay)
                against = "-" if one is replacing else one.score_against(replacing)
                rows.append((f"{delay:g}", label, against, one.agent_jerk, one.lead))
        heads = "delay (ms) | joining | score against replace, 95% interval | jerk of the agent"
        return table(f"{heads} | lead", rows)


def names(data: Path) -> dict[str, Any]:
    """Return ``delays``, which is called with a joining and a delay."""
    return {"delays": Delays(data)}


def pictures(data: Path) -> list[Picture]:
    """Return success, score and jerks against the delay."""
    delays = Delays(data)
    x = "delay of a chunk (ms)"
    panels = [_successes(delays, x)]
    for name, value, scale in (
        ("score", "score", 1.0),
        ("action_jerk", "jerk of actions (1000 px/s³)", 1e-3),
        ("position_jerk", "jerk of the agent (1000 px/s³)", 1e-3),
    ):
        series = tuple(
            Series(
                label,
                tuple(delays.delays),
                tuple(scale * one.mean(name) for one in delays.line(joining)),
            )
            for joining, label in LABELS.items()
        )
        panels.append(Panel(series, value, x, from_zero=name != "score"))
    return [
        Picture(
            "delays",
            "Success, score and jerk against the delay of a chunk: replacing jumps more the later "
            "chunks come, prefix conditioning stays smooth, waiting loses time",
            tuple(panels),
            title="Chunks that come late",
            subtitle=f"PushT at {delays.hz} Hz, n = {delays.n} per point; 95% intervals",
        )
    ]


def _successes(delays: Delays, x: str) -> Panel:
    series = []
    for place, (joining, label) in enumerate(LABELS.items()):
        rates = [one.solved for one in delays.line(joining)]
        low, high = zip(*(rate.limits for rate in rates), strict=True)
        # Intervals beside each other, not on each other.
        at = tuple(delay + 6.0 * (place - 1.5) for delay in delays.delays)
        series.append(Series(label, at, tuple(rate.rate for rate in rates), low, high))
    return Panel(tuple(series), "success", x, from_zero=True)
