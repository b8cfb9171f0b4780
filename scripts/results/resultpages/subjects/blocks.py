"""PushT from state: how many blocks, of which size, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from listed import listed_studies

from resultpages.cells import Cells, StudyResults
from resultpages.curves import of_demonstrations, score_and_success
from resultpages.pictures import Panel, Picture, Series

EQUAL_PARAMETERS = {1: "fm", 2: "n2", 3: "n3", 4: "n4", 8: "n8"}
EQUAL_BLOCKS = {1: "fm", 2: "lfm", 3: "n3-large", 4: "n4-large", 8: "n8-large"}
"""Models by their number of blocks."""
TABLES_OF_BLOCKS = (
    *dict.fromkeys([*EQUAL_PARAMETERS.values(), *EQUAL_BLOCKS.values()]),
    *(f"lfm-{share}%" for share in (50, 25, 12)),
    *(f"{family}-{k}" for family in ("lfm", "fm") for k in (4, 2, 1)),
)
"""What the pages of blocks, parameters and first students need, beside the first comparison."""
COSTS = {
    "FM": "fm",
    "FM of 1.3 M parameters": "fm-wide",
    "FM of 2.0 M parameters": "fm-wider",
    "LFM, 2 blocks": "lfm",
    "LFM, 3 blocks": "lfm3",
    "LFM, 4 blocks": "n4-large",
    "LFM, 8 blocks": "n8-large",
    "LFM's student of 2": "lfm3-2-more",
    "LFM's student of 1": "lfm3-1-more",
    "FM's student of 2": "fm-2-more",
    "FM's student of 1": "fm-1-more",
    "two-step regression": "mip",
    "regression": "regression",
}
"""Bars of the figure of seconds, and their models."""


def names(data: Path) -> dict[str, Any]:
    state = StudyResults(listed_studies()["state"], data)
    rows = state.rows("wall-clock")

    def hours(*models: str) -> float:
        """Return the hours that all trainings took, or those of some models."""
        chosen = state.rows("wall-clock", *models)
        return sum(sum(cells.all_seconds) for cells in chosen) / 3600

    return {
        "equal_parameters": _both(state, EQUAL_PARAMETERS),
        "equal_blocks": _both(state, EQUAL_BLOCKS),
        "all_costs": rows,
        "hours": hours,
        "tables_of_blocks": TABLES_OF_BLOCKS,
    }


def pictures(data: Path) -> list[Picture]:
    state = StudyResults(listed_studies()["state"], data)
    subtitle = of_demonstrations(state("n2 16@0.6"))
    smaller = ["fm 16@0.6", "n2 16@0.6", *(f"lfm-{share}% 16@0.6" for share in (50, 25, 12))]
    costs = {label: next(iter(state.rows("wall-clock", model))) for label, model in COSTS.items()}
    return [
        Picture(
            "blocks",
            "Score and success against the number of blocks: with FM's parameters in all, more "
            "blocks are worse; with blocks as large as FM, three are the best",
            (
                *_against_blocks(_both(state, EQUAL_PARAMETERS), "FM's parameters in all"),
                *_against_blocks(_both(state, EQUAL_BLOCKS), "each block as large as FM"),
            ),
            title="PushT from state: numbers of blocks",
            subtitle=f"{subtitle}; dropout 0.1",
        ),
        Picture(
            "parameters",
            "Score and success against parameters: both fall as LFM has fewer",
            score_and_success(
                {
                    "LFM, 2 blocks": [state(at) for at in smaller[1:]],
                    "FM": [state(smaller[0])],
                },
                x="parameters (thousands)",
                place=_of_training(lambda t: t["parameters"]["total"] / 1000),
                ticks=(80, 160, 320, 640),
            ),
            title="PushT from state: fewer parameters",
            subtitle=subtitle,
        ),
        Picture(
            "seconds",
            "Seconds of training and of push-forward or teacher's samples, a bar per model",
            (_bars(costs),),
            title="Seconds per model on one CPU thread",
            subtitle="of one training; students learned 72,000 steps, all others 24,000",
        ),
    ]


def _both(state: StudyResults, models: dict[int, str]) -> list[Cells]:
    """Return the cells of 16 evaluations and of many, for every number of blocks."""
    many = {blocks: "m32@0.6" if blocks == 1 else "m64@0.6" for blocks in models}
    return [
        state(f"{model} {sampler}")
        for blocks, model in models.items()
        for sampler in ("16@0.6", many[blocks])
    ]


def _against_blocks(cells: list[Cells], title: str) -> tuple[Panel, Panel]:
    lines: dict[str, list[Cells]] = {}
    for one in cells:
        many = "32 (FM) or 64 evaluations, midpoint"
        lines.setdefault("16 evaluations" if one.solver == "euler" else many, []).append(one)
    place = _of_training(lambda training: len(training["block_steps"]))
    return score_and_success(lines, x="blocks", place=place, ticks=(1, 2, 3, 4, 8), title=title)


def _of_training(value: Callable[[dict[str, Any]], float]) -> Callable[[Cells], float]:
    return lambda cells: value(cells.each[0]["training"])


def _bars(costs: dict[str, Cells]) -> Panel:
    at = tuple(map(float, range(len(costs))))
    return Panel(
        (
            Series("training", at, tuple(c.train_seconds for c in costs.values())),
            Series(
                "push-forward or teacher's samples",
                at,
                tuple(c.push_seconds for c in costs.values()),
            ),
        ),
        "seconds",
        rows=tuple(costs),
        bars=True,
    )
