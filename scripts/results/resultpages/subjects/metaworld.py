"""Meta-World: one policy for many tasks, its students, and what they were shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from metaworld_table import ARCHIVE, DEMONSTRATIONS, EPISODES, samplers

from lfm_policy.errors import InputError
from lfm_policy.text.numbers import duration
from resultpages.cells import Cells, by_seed
from resultpages.numbers import three
from resultpages.rates import Rate
from resultpages.tables import table

LABELS = {
    "lfm": "LFM, teacher of three blocks",
    "lfm-2": "its student of 2 evaluations",
    "lfm-1": "its student of 1 evaluation",
    "fm": "one global flow (FM)",
    "fm-2": "FM's student of 2 evaluations",
    "fm-1": "FM's student of 1 evaluation",
}
"""Policies by model, for readers."""


@dataclass(frozen=True)
class Many(Cells):
    """A policy of many tasks: what its trainings achieved in each of them."""

    @property
    def mean(self) -> str:
        """Success, the mean over tasks and trainings."""
        return three(self.rate)

    @property
    def means(self) -> str:
        """The mean over tasks of every training."""
        return ", ".join(three(cell["summary"]["mean_over_tasks"]) for cell in self.each)

    @cached_property
    def tasks(self) -> dict[str, Rate]:
        """Successes in every task, of all trainings together."""
        each = [cell["summary"]["tasks"] for cell in self.each]
        return {
            name: Rate(*(sum(one[name][key] for one in each) for key in ("successes", "n")))
            for name in each[0]
        }

    @property
    def worst(self) -> str:
        """The task with the fewest successes."""
        name = min(self.tasks, key=lambda task: self.tasks[task].rate)
        return f"{name} {self.tasks[name].success}"

    @property
    def minutes(self) -> str:
        """Of training and of what precedes it, the quickest training."""
        return duration(self.train_seconds + self.push_seconds)


class Benchmark:
    """What is measured of MT10 or MT50, called with a model such as ``lfm-2``."""

    def __init__(self, data: Path, tasks: str) -> None:
        """Take what there is: of ``mt10`` or ``mt50``, perhaps nothing."""
        self._name = tasks
        self._cells = _read(data / ARCHIVE)
        self._shown = _read(data / DEMONSTRATIONS)

    def __bool__(self) -> bool:
        return any(map(self.find, LABELS))

    def __call__(self, model: str) -> Many:
        """Return the cells of a model.

        Raises:
            InputError: none is measured.
        """
        if found := self.find(model):
            return found
        raise InputError(f"{ARCHIVE} has no cell of {self._name}-{model}")

    def find(self, model: str) -> Many | None:
        """Return the cells of a model, or None where none is measured."""
        at = (f"{self._name}-{model}", samplers()[model])
        found = by_seed(self._cells, at, EPISODES)
        return Many(LABELS[model], found, at) if found else None

    @cached_property
    def known(self) -> dict[str, Many]:
        """All models that are measured."""
        return {model: found for model in LABELS if (found := self.find(model))}

    def table(self) -> str:
        """Return the mean over tasks of every policy."""
        rows = [
            (c.label, c.evaluations, c.seeds, c.mean, c.means, c.worst) for c in self.known.values()
        ]
        heads = "policy | evaluations | trainings | mean over tasks | each training | hardest task"
        return table(heads, rows)

    def by_task(self) -> str:
        """Return the successes in every task, the experts' first, of LFM and its students."""
        shown = {m: c for m, c in self.known.items() if m.startswith("lfm")}
        rows = []
        for name in next(iter(shown.values())).tasks:
            expert = self.experts.get(name)
            own = [cells.tasks[name].success for cells in shown.values()]
            rows.append((name, expert.success if expert else "-", *own))
        heads = " | ".join(f"{cells.label}" for cells in shown.values())
        return table(f"task | experts | {heads}", rows)

    def costs(self) -> str:
        """Return what the policies are made of."""
        rows = [(c.label, c.parameters, c.steps, c.minutes) for c in self.known.values()]
        return table("policy | parameters | gradient steps | training", rows)

    @cached_property
    def experts(self) -> dict[str, Rate]:
        """How often the experts succeeded, by task."""
        facts = self._shown.get(self._name, {})
        return {name: Rate(one["demos"], one["attempts"]) for name, one in facts.items()}

    @property
    def expert_mean(self) -> str:
        """Success of the experts, the mean over tasks."""
        return three(float(np.mean([one.rate for one in self.experts.values()])))

    @property
    def collecting(self) -> str:
        """How long the demonstrations took."""
        return duration(self._shown[f"{self._name} seconds"]["seconds"])


def _read(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def names(data: Path) -> dict[str, Any]:
    """Return ``metaworld``: the benchmarks by name."""
    return {"metaworld": {name: Benchmark(data, name) for name in ("mt10", "mt50")}}
