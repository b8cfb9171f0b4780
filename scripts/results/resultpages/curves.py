"""Panels that figures of studies share: score and success, against something or in rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lfm_policy.text.numbers import counted
from resultpages.cells import Cells
from resultpages.pictures import Panel, Series

EVALUATIONS: dict[str, Any] = {
    "x": "network evaluations per chunk",
    "place": lambda cells: cells.each[0]["nfe"],
    "ticks": (1, 2, 4, 8, 16, 32, 64),
}
"""Arguments of `score_and_success` for curves against evaluations."""
FROM_NOISE = "sampled from 0.6 of the noise; {} with 1 to 8 evaluations from all of it"
"""Line of a subtitle, with who is sampled from all of it."""


def of(cells: Cells) -> str:
    """Return of how much cells are, such as ``3 trainings, n = 600``."""
    return f"{counted(len(cells.found), 'training')}, n = {cells.n:,}"


def of_demonstrations(cells: Cells) -> str:
    """Return the subtitle of figures of PushT from state."""
    return f"206 human demonstrations, {of(cells)}; 95% intervals of success"


def score_and_success(
    lines: Mapping[str, Sequence[Cells]],
    *,
    x: str,
    place: Callable[[Cells], float],
    ticks: Sequence[float] = (),
    title: str = "",
) -> tuple[Panel, Panel]:
    """Return two panels of curves.

    Args:
        lines: cells of each curve by its label.
        x: label of the axis.
        place: returns where cells are on it.
        ticks: of a logarithmic axis; those beside the cells are left out.
        title: of the first panel.
    """
    places = sorted(place(cells) for line in lines.values() for cells in line)
    inside = tuple(t for t in ticks if places[0] <= t <= places[-1])
    scores, successes = [], []
    for label, line in lines.items():
        cells = sorted(line, key=place)
        at = tuple(float(place(one)) for one in cells)
        scores.append(Series(label, at, tuple(one.mean_score for one in cells)))
        low, high = zip(*(one.limits for one in cells), strict=True)
        successes.append(Series(label, at, tuple(one.rate for one in cells), low, high))
    return (
        Panel(tuple(scores), "score", x, title, inside),
        Panel(tuple(successes), "success", x, ticks=inside),
    )


def score_and_success_rows(rows: Mapping[str, Mapping[str, Cells]]) -> tuple[Panel, Panel]:
    """Return two panels with a row for each name, and in it a point for each label of a series."""
    labels = list(dict.fromkeys(label for row in rows.values() for label in row))
    scores, successes = [], []
    for label in labels:
        found = [(at, row[label]) for at, row in enumerate(rows.values()) if label in row]
        at = tuple(float(row) for row, _ in found)
        low, high = zip(*(one.limits for _, one in found), strict=True)
        scores.append(Series(label, at, tuple(one.mean_score for _, one in found)))
        successes.append(Series(label, at, tuple(one.rate for _, one in found), low, high))
    names = tuple(rows)
    return (
        Panel(tuple(scores), "score", rows=names),
        Panel(tuple(successes), "success", rows=names),
    )
