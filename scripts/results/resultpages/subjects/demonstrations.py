"""How many demonstrations: score and success against their number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from listed import listed_studies

from resultpages.cells import Cells, StudyResults
from resultpages.curves import score_and_success
from resultpages.pictures import Picture

MODELS = {25: "lfm3-d25", 50: "lfm3-d50", 100: "lfm3-d100", 206: "lfm3"}
"""Trainings by the number of their demonstrations."""


def by_number(data: Path) -> dict[int, Cells]:
    """Return what is measured by the number of demonstrations."""
    state = StudyResults(listed_studies()["state"], data)
    found = {number: state.rows("demonstrations", model) for number, model in MODELS.items()}
    return {number: cells[0] for number, cells in found.items() if cells}


def names(data: Path) -> dict[str, Any]:
    """Return ``demonstrations``: cells by number, those that are measured."""
    return {"demonstrations": by_number(data)}


def pictures(data: Path) -> list[Picture]:
    """Return score and success against the number of demonstrations."""
    found = by_number(data)
    where = {id(cells): number for number, cells in found.items()}
    panels = score_and_success(
        {"LFM, three MLP blocks, 16 evaluations": list(found.values())},
        x="demonstrations",
        place=lambda cells: where[id(cells)],
        ticks=tuple(MODELS),
    )
    return [
        Picture(
            "demonstrations",
            "Score and success against the number of demonstrations",
            tuple(replace(panel, from_zero=True) for panel in panels),
            title="How many demonstrations",
            subtitle="PushT from state, 24,000 gradient steps each; mean of the trainings, 95% "
            "intervals",
        )
    ]
