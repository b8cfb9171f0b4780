"""A policy that LeRobot trained, and its students: success, score, distance, milliseconds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_policy.evaluation import paired_bootstrap
from lfm_policy.text.numbers import percent
from resultpages.numbers import interval, signed, three
from resultpages.rates import Rated, Rollouts
from resultpages.subjects.latency import milliseconds
from resultpages.tables import table

LABELS = {"ddim": "teacher, DDIM", "flow": "teacher, as a flow", "student": "student"}
"""Kinds of policies, and what they are to readers."""


@dataclass(frozen=True)
class Rolled(Rollouts, Rated):
    """A policy with one sampler on the test seeds.

    Attributes:
        cell: of ``eval.json``, and its name: ``ddim 10``, ``flow 32 1`` or ``student 2 0.6``,
            evaluations and noise.
        theirs: milliseconds of a chunk in LeRobot; None: not measured, or LeRobot cannot.
        ours: the same in our runtime.
    """

    theirs: float | None = None
    ours: float | None = None

    @cached_property
    def solved(self) -> int:
        return int(self.cell["summary"]["successes"])

    @cached_property
    def n(self) -> int:
        return int(self.cell["summary"]["n"])

    @property
    def label(self) -> str:
        return LABELS[self.cell["name"].split()[0]]

    @property
    def evaluations(self) -> str:
        return f"{self.cell['nfe']:g}"

    @property
    def noise(self) -> str:
        return f"{self.cell['noise_scale']:g}"

    @property
    def score(self) -> str:
        return three(float(self.cell["summary"]["score"]))

    @property
    def in_lerobot(self) -> str:
        return "-" if self.theirs is None else milliseconds(self.theirs)

    @property
    def in_ours(self) -> str:
        return "-" if self.ours is None else milliseconds(self.ours)

    def score_against(self, other: Rolled) -> str:
        """Return the difference in score on the same episodes, and its interval."""
        own, others = self.column("max_reward"), other.column("max_reward")
        found = paired_bootstrap(own, others)
        return f"{signed(float(np.mean(own) - np.mean(others)))} {interval(tuple(found))}"

    def success_against(self, other: Rolled) -> str:
        """Return the difference in success on the same episodes."""
        return signed(self.rate - other.rate)


class Imported:
    """What is in imported.json, called with the name of a policy."""

    def __init__(self, data: Path) -> None:
        self.found = json.loads((data / "imported.json").read_text())
        latency = self.found["latency"]
        self.rounds, self.versions = latency["rounds"], latency["versions"]
        theirs = {(r["solver"], r["nfe"]): r for r in latency["rows"] if r["runtime"] == "lerobot"}
        self.ddpm_ms = float(theirs["ddpm", 100]["median_ms"])
        ours = {r["policy"]: r for r in latency["rows"] if r["runtime"] != "lerobot"}
        self._rows = {}
        for cell in sorted(self.found["cells"], key=_place):
            kind, nfe = cell["name"].split()[:2]
            there, here = theirs.get((kind, int(nfe)), {}), ours.get(f"{kind} {nfe}", {})
            self._rows[cell["name"]] = Rolled(cell, there.get("median_ms"), here.get("median_ms"))

    def __call__(self, name: str) -> Rolled:
        """Return what was measured.

        Raises:
            InputError: nothing was.
        """
        if name not in self._rows:
            raise InputError(f"imported.json has no {name!r}, only {', '.join(self._rows)}")
        return self._rows[name]

    @property
    def teacher(self) -> dict[str, Any]:
        """How LeRobot trained the policy."""
        found = self.found["teacher"]
        return {"parameters": f"{found['parameters']:,}", **found["training"]}

    def student(self, nfe: int) -> dict[str, Any]:
        """Return what a student is made of."""
        return dict(self.found["students"][str(nfe)])

    @property
    def largest_difference(self) -> str:
        """Of the actions of LeRobot and of our exports from the same noise, in pixels."""
        return f"{max(self.found['latency']['largest_difference'].values()):.1g}"

    def table(self) -> str:
        """Return success, score and milliseconds of all."""
        rows = [
            (
                *(r.label, r.evaluations, r.noise, r.score, r.success, r.interval),
                *(r.in_lerobot, r.in_ours),
            )
            for r in self._rows.values()
        ]
        heads = "policy | evaluations | noise | score | success | 95% interval | ms in LeRobot"
        return table(f"{heads} | ms in our runtime", rows)

    def comparisons(self) -> str:
        """Return each policy against the teacher of most steps, on the same episodes."""
        first, *others = self._rows.values()
        rows = [
            (
                *(r.label, r.evaluations, r.noise),
                *(r.score_against(first), r.success_against(first), f"{r.p_against(first):.2g}"),
            )
            for r in others
        ]
        heads = (
            f"policy | evaluations | noise | score against DDIM {first.evaluations}, 95% interval"
        )
        return table(f"{heads} | success | p", rows)

    def distances(self) -> str:
        """Return how far students are from their teacher at observations held out."""
        rows = []
        for nfe, found in self.found["students"].items():
            distance = found["distance"]
            pixels = ", ".join(f"{value:.1f}" for value in distance["rmse"])
            seconds = (f"{found[key] / 60:.0f}" for key in ("teacher_seconds", "seconds"))
            rows.append(
                (
                    *(nfe, f"{found['parameters']:,}", f"{found['steps']:,}", *seconds),
                    *(pixels, percent(distance["of_spread"], 1)),
                )
            )
        heads = "evaluations | parameters | steps | minutes asking the teacher | minutes training"
        return table(f"{heads} | from the teacher (pixels) | of its spread", rows)


def _place(cell: dict[str, Any]) -> tuple[int, float, float]:
    """Return where readers look for it: the teacher first, most evaluations first."""
    kind = cell["name"].split()[0]
    return list(LABELS).index(kind), -cell["nfe"], -cell["noise_scale"]


def names(data: Path) -> dict[str, Any]:
    """Return ``imported``, which is called with the name of a policy."""
    return {"imported": Imported(data)}
