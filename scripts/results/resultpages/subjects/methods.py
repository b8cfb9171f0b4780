"""PushT from state: every method in one table, what it costs, and what a robot feels of it.

A row is there once any of its numbers is measured, and what is not measured is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from listed import listed_studies

from lfm_policy.text.numbers import counted, percent
from resultpages.cells import Cells, StudyResults
from resultpages.subjects.latency import milliseconds
from resultpages.tables import table

NOTHING = "–"
"""In the place of what is not measured."""


def both(cells: Cells) -> str:
    """Return score and success, such as ``0.652 / 0.087``."""
    return f"{cells.score} / {cells.success}"


class Methods:
    """The tables of the page."""

    def __init__(self, data: Path) -> None:
        """Read what is measured, of ``data``, as far as it is."""
        self._state = StudyResults(listed_studies()["state"], data)
        self._chunks = _read(data / "pusht_chunks.json", {"settings": {}, "cells": {}})
        self._costs = _read(data / "pusht_costs.json", {"computer": {}, "steps": {}, "chunks": {}})

    def measured(self, at: str) -> Cells | None:
        """Return the cells of ``model sampler``; None where there are none."""
        return self._state.known(at)

    def results(self, part: str, counts: Sequence[int], *, per_block: bool = False) -> str:
        """Return score and success of a part by evaluations, a row per policy, solver and noise.

        The last column is the best of all that is measured of the row, by score plus success. A
        row says of how many trainings it is where not all of the study are measured.

        Args:
            part: of the study.
            counts: evaluations that have a column.
            per_block: whether these are of each block, and not of a chunk.
        """
        rows: dict[tuple[str, str], dict[int, Cells]] = {}
        for cells in self._state.rows(part):
            nfe = int(cells.each[0]["nfe"])
            solver = "" if cells.solver == "euler" else f", {cells.solver_name}"
            rows.setdefault((cells.label + solver, cells.noise), {})[nfe] = cells
        lines = []
        for (label, noise), found in rows.items():
            blocks = next(iter(found.values())).blocks if per_block else 1
            few = [found.get(count * blocks) for count in counts]
            best = max(found.values(), key=lambda cells: cells.mean_score + cells.rate)
            shown = [NOTHING if cells is None else both(cells) for cells in few]
            trainings = min(len(cells.found) for cells in found.values())
            if trainings < len(self._state.seeds):
                label += f" ({counted(trainings, 'training')})"
            lines.append([label, noise, *shown, f"{both(best)} ({best.evaluations})"])
        unit = "per block" if per_block else "evaluation"
        heads = [f"{n} {unit}{'s' if n > 1 and not per_block else ''}" for n in counts]
        return table(" | ".join(["policy", "noise", *heads, "best (evaluations)"]), lines)

    def costs(self, *parts: str) -> str:
        """Return what the models of some parts cost, a row each."""
        lines = []
        for label, cells in self._by_model(parts):
            one = cells[0]
            step = self._costs["steps"].get(one.at[0])
            times = {
                c.evaluations: milliseconds(found["median_ms"])
                for c in cells
                if (found := self._costs["chunks"].get(" ".join(map(str, c.at))))
            }
            ms = ", ".join(f"{time} ({nfe})" for nfe, time in times.items())
            alone = NOTHING if step is None else f"{step * one.all_steps / 1e3:,.0f}"
            row = [label, one.parameters, one.steps, one.training, one.push, alone]
            lines.append([*row, ms or NOTHING])
        heads = "policy | parameters | gradient steps | training (s) | push-forward or samples (s)"
        return table(f"{heads} | training alone (s) | ms per chunk (evaluations)", lines)

    def felt(self, *parts: str) -> str:
        """Return what a robot feels of the policies of some parts; empty where nothing is measured.

        Means over the training seeds that are measured.
        """
        lines = []
        for cells in self._cells(parts):
            found = self._of_chunks(cells)
            if not found:
                continue
            jerk = _mean(found, "smoothness", "jerk_at_joins")
            ratio = _mean(found, "smoothness", "jerk_ratio")
            shares = [
                _mean(found, *keys)
                for keys in (
                    ("outside_demonstrations", "share_of_chunks"),
                    ("outside_rollouts", "share_of_chunks"),
                    ("ways", "kept"),
                    ("ways", "between"),
                )
            ]
            lines.append(
                [
                    cells.label,
                    cells.sampler,
                    NOTHING if jerk is None else f"{jerk / 1e3:.0f}",
                    NOTHING if ratio is None else f"{ratio:.1f}",
                    *(NOTHING if x is None else percent(x, 1) for x in shares[:2]),
                    *(NOTHING if x is None else percent(x) for x in shares[2:]),
                ]
            )
        if not lines:
            return ""
        heads = "policy | evaluations | jerk at joins | over inside | outside, demonstrations"
        return table(f"{heads} | outside, own episodes | both ways kept | between", lines)

    @property
    def chunk_settings(self) -> dict[str, Any]:
        """How chunks were measured; empty where they were not."""
        return dict(self._chunks["settings"])

    @property
    def two_ways(self) -> tuple[int, int] | None:
        """At how many of how many instants the reference goes two ways, over all training seeds."""
        found: dict[str, dict[str, int]] = {}
        for key, cell in self._chunks["cells"].items():
            found[key.split()[1]] = cell["ways"]
        if not found:
            return None
        each = found.values()
        return sum(w["n_two_ways"] for w in each), sum(w["n_instants"] for w in each)

    def _of_chunks(self, cells: Cells) -> list[dict[str, Any]]:
        model, sampler = cells.at
        keys = (f"{model} seed{seed} {sampler}" for seed in cells.found)
        return [self._chunks["cells"][key] for key in keys if key in self._chunks["cells"]]

    def _cells(self, parts: Iterable[str]) -> list[Cells]:
        """Return the cells of some parts, each once."""
        every = [cells for part in parts for cells in self._state.rows(part)]
        return list({(c.label, c.sampler): c for c in every}.values())

    def _by_model(self, parts: Iterable[str]) -> list[tuple[str, list[Cells]]]:
        found: dict[str, list[Cells]] = {}
        for cells in self._cells(parts):
            found.setdefault(cells.label, []).append(cells)
        return list(found.items())


def _mean(found: Sequence[dict[str, Any]], kind: str, key: str) -> float | None:
    """Return the mean of a number over what is known of it; None where nothing is."""
    known = [one[kind][key] for one in found if one[kind][key] is not None]
    return float(np.mean(known)) if known else None


def _read(path: Path, nothing: dict[str, Any]) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else nothing


def names(data: Path) -> dict[str, Any]:
    """Return ``methods`` and ``both``."""
    return {"methods": Methods(data), "both": both}
