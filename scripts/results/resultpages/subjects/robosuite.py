"""robomimic's tasks in robosuite: collected demonstrations, and what is learned from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pieces import Sampler
from robomimic_table import EARLIER, POLICIES, TASKS, name_of

from lfm_policy.errors import InputError
from resultpages.cells import Cells, by_seed
from resultpages.pictures import Panel, Picture, Series
from resultpages.rates import Rate
from resultpages.tables import table

NAMES = {
    "lift": "Lift",
    "can": "Can",
    "square": "Square",
    "transport": "Transport",
    "tool_hang": "ToolHang",
}
"""Tasks for readers, the easiest first."""
COLLECTED = {
    "Lift": "Lift",
    "PickPlaceCan": "Can",
    "NutAssemblySquare": "Square",
    "TwoArmTransport": "Transport",
    "ToolHang": "ToolHang",
}
"""The same by the names of environments in collected.json."""


@dataclass(frozen=True)
class Archive:
    """Where the cells of a recipe are, and how they are called there.

    Attributes:
        file: of the folder of data.
        policies: what models are to readers, and their samplers.
        earlier: parts of the steps, by the prefix of a model.
        episodes: of a cell, by task.
    """

    file: str
    policies: Mapping[str, tuple[str, Sampler]]
    earlier: Mapping[str, int]
    episodes: Mapping[str, int]


NOW = Archive(
    "robomimic.json", POLICIES, EARLIER, {name: task.episodes for name, task in TASKS.items()}
)
TWO_BLOCKS = Archive(
    "robomimic_two_blocks.json",
    {
        "fm": ("FM", Sampler(32, "midpoint")),
        "lfm": ("LFM, two blocks", Sampler(64, "midpoint")),
        "lfm-2": ("its student of 2", Sampler(2)),
        "lfm-1": ("its student of 1", Sampler(1)),
    },
    {"early-": 3, "ninth-": 9},
    {"lift": 200, "can": 200, "square": 200, "tool_hang": 50, "transport": 50},
)
"""Two blocks with dropout, which learned deltas and are sampled from full noise."""


class Tasks:
    """What an archive has, called with a task and a model."""

    def __init__(self, data: Path, archive: Archive) -> None:
        self._cells: dict[str, Any] = json.loads((data / archive.file).read_text())
        self._archive = archive

    def __call__(self, task: str, model: str, when: str = "") -> Cells:
        """Return the cells of a model such as ``lfm-2``; ``when`` says an earlier checkpoint.

        Raises:
            InputError: none is measured.
        """
        if cells := self.find(task, model, when):
            return cells
        raise InputError(f"{self._archive.file} has no cell of {when}{name_of(task, model)}")

    def find(self, task: str, model: str, when: str = "") -> Cells | None:
        """Return the cells of a model, or None where none is measured."""
        label, sampler = self._archive.policies[model]
        at = (when + name_of(task, model), sampler)
        found = by_seed(self._cells, at, self._archive.episodes[task])
        return Cells(label, found, at) if found else None

    def table(self) -> str:
        """Return the table of all that was trained to the end."""
        rows = []
        for task, said in NAMES.items():
            for model in self._archive.policies:
                if cells := self.find(task, model):
                    row = (said, cells.label, cells.evaluations, cells.seeds, cells.success)
                    rows.append((*row, cells.counts, cells.interval))
        heads = "task | policy | evaluations | trainings | success | solved | 95% interval"
        return table(heads, rows)

    def seconds(self) -> str:
        """Return the table of what trainings took."""
        rows = []
        for task, said in NAMES.items():
            for model in self._archive.policies:
                for when, part in {"": 1, **self._archive.earlier}.items():
                    if cells := self.find(task, model, when):
                        label = (
                            cells.label if part == 1 else f"{cells.label}, 1/{part} of the steps"
                        )
                        row = (said, label, cells.parameters, cells.steps)
                        rows.append((*row, cells.training, cells.push))
        heads = "task | policy | parameters | gradient steps | training (s)"
        return table(f"{heads} | push-forward or teacher's samples (s)", rows)

    def curve(self, task: str, model: str = "lfm") -> list[Cells]:
        """Return the cells of a model by rising numbers of gradient steps."""
        found = [self.find(task, model, when) for when in ("", *self._archive.earlier)]
        known = [cells for cells in found if cells]
        return sorted(known, key=lambda cells: int(cells.each[0]["training"]["steps"]))


def collected_table(data: Path) -> str:
    """Return the table of the scripted experts and of what they recorded."""
    files = json.loads((data / "collected.json").read_text())
    order = list(COLLECTED)
    rows = []
    for facts in sorted(files.values(), key=lambda f: (order.index(f["task"]), f["version"])):
        expert = Rate(facts["demos"], facts["attempts"])
        again = f"{facts['replayed'] - len(facts['failed'])} of {facts['replayed']}"
        rows.append(
            (
                *(COLLECTED[facts["task"]], facts["version"], facts["demos"]),
                *(f"{facts['steps']:,}", expert.success, expert.interval, again),
            )
        )
    heads = "task | version of the expert | demonstrations | steps | expert's success"
    return table(f"{heads} | 95% interval | solved again when replayed", rows)


def names(data: Path) -> dict[str, Any]:
    """Return ``tasks``, which is called with a task and a model, and the experts' table."""
    archives = {"tasks": Tasks(data, NOW), "two_blocks": Tasks(data, TWO_BLOCKS)}
    return {**archives, "collected_table": lambda: collected_table(data)}


def pictures(data: Path) -> list[Picture]:
    """Return success per task, and against gradient steps."""
    tasks = Tasks(data, TWO_BLOCKS)
    shown = {
        "lfm": "LFM teacher",
        "lfm-2": "student of 2 evaluations",
        "lfm-1": "student of 1 evaluation",
    }
    series = []
    for model, label in shown.items():
        known = [(at, tasks.find(task, model)) for at, task in enumerate(NAMES)]
        found = [(float(at), cells) for at, cells in known if cells]
        low, high = zip(*(cells.limits for _, cells in found), strict=True)
        at, rates = zip(*((at, cells.rate) for at, cells in found), strict=True)
        series.append(Series(label, at, rates, low, high))
    success = Panel(tuple(series), "success", rows=tuple(NAMES.values()), from_zero=True)
    curves = []
    for task in ("lift", "can", "square"):
        cells = tasks.curve(task)
        low, high = zip(*(one.limits for one in cells), strict=True)
        steps = tuple(float(one.each[0]["training"]["steps"]) for one in cells)
        curves.append(Series(NAMES[task], steps, tuple(one.rate for one in cells), low, high))
    learning = Panel(tuple(curves), "success", "gradient steps of the training", from_zero=True)
    return [
        Picture(
            "robosuite",
            "Success in robosuite's tasks: nearly always in Lift and Can, mostly in Square, seldom "
            "in Transport and ToolHang; students of Lift and Can are near their teachers",
            (success,),
            title="robosuite, 200 collected demonstrations per task",
            subtitle="state observations, one training each, n = 200 (Transport, ToolHang: 50); "
            "95% intervals",
        ),
        Picture(
            "learning",
            "Success against gradient steps: Lift is learned in a third of the steps, Square still "
            "rises steeply at the last",
            (learning,),
            title="Success against gradient steps",
            subtitle="LFM teachers, each point a training of its own, n = 200; 95% intervals",
        ),
    ]
