"""robomimic's tasks in robosuite: collected demonstrations, and what is learned from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robomimic_table import EARLIER, POLICIES, TASKS

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


class Tasks:
    """What robomimic.json has, called with a task and a model."""

    def __init__(self, data: Path) -> None:
        self._cells: dict[str, Any] = json.loads((data / "robomimic.json").read_text())

    def __call__(self, task: str, model: str, when: str = "") -> Cells:
        """Return the cells of a model such as ``lfm-2``; ``when`` is a key of `EARLIER`.

        Raises:
            InputError: none is measured.
        """
        if cells := self.find(task, model, when):
            return cells
        raise InputError(f"robomimic.json has no cell of {when}{task}-{model}")

    def find(self, task: str, model: str, when: str = "") -> Cells | None:
        """Return the cells of a model, or None where none is measured."""
        label, sampler = POLICIES[model]
        at = (f"{when}{task}-{model}", sampler)
        found = by_seed(self._cells, at, TASKS[task][2])
        return Cells(label, found, at) if found else None

    def table(self) -> str:
        """Return the table of all that was trained to the end."""
        rows = []
        for task, said in NAMES.items():
            for model in POLICIES:
                if cells := self.find(task, model):
                    row = (said, cells.label, cells.evaluations, cells.success, cells.counts)
                    rows.append((*row, cells.interval))
        return table("task | policy | evaluations | success | solved | 95% interval", rows)

    def seconds(self) -> str:
        """Return the table of what trainings took."""
        rows = []
        for task, said in NAMES.items():
            for model in POLICIES:
                for when, part in {"": 1, **EARLIER}.items():
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
        found = [self.find(task, model, when) for when in ("", *EARLIER)]
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
    return {"tasks": Tasks(data), "collected_table": lambda: collected_table(data)}


def pictures(data: Path) -> list[Picture]:
    """Return success per task, and against gradient steps."""
    tasks = Tasks(data)
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
