"""PushT from state: how the settings were chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from listed import listed_studies

from resultpages.cells import Cells, StudyResults
from resultpages.curves import score_and_success_rows
from resultpages.pictures import Picture

STEPS = ("fm", "n2-g10", "n2-g03", "n2-g01", "n2-g003", "n3", "n3-g003-g03", "n3-g01-g03",
         "n3-g01-g30", "n3-g03-g30", "n4")  # fmt: skip
TWO_BLOCKS = ("n2-g01", "trigonometric", "shares", "cold-start", "small-noise-block",
              "small-data-block", "times-at-data", "times-at-ends", "independent", "parallel",
              "long-average", "dropout-0", "dropout-02", "no-weight-decay", "one-frame",
              "three-frames", "short-chunk", "unet1d")  # fmt: skip
THREE_BLOCKS = ("n3", "n3-trigonometric", "n3-shares", "n3-shaped-noise", "n3-dropout-0",
                "n3-dropout-0-short", "n3-unet1d", "fm-unet1d")  # fmt: skip
STUDENTS = ("d-g01-2", "c-g01-2", "d-g03-2", "c-g03-2", "d-g01-1")
"""Models by what is compared; the first one is what the others differ from, students excepted."""


def names(data: Path) -> dict[str, Any]:
    sweep = StudyResults(listed_studies()["sweep"], data)

    def pair(model: str) -> str:
        """Return success with 16 evaluations and with many, as ``0.445 / 0.505``."""
        return " / ".join(cells.success for cells in _both(sweep, model))

    def scores(model: str) -> str:
        return " and ".join(cells.score for cells in _both(sweep, model))

    def against(model: str, other: str) -> str:
        """Return p of both samplers, as ``p = 0.1 and 0.0078``."""
        pairs = zip(_both(sweep, model), _both(sweep, other), strict=True)
        first, second = (a - b for a, b in pairs)
        return f"{first.p} and {second.probability}"

    def settings(models: Sequence[str]) -> list[Cells]:
        return [cells for model in models for cells in _both(sweep, model)]

    def students() -> list[list[str]]:
        """Return rows of label, evaluations, and score and success at noise 0.5 and at 0.7."""
        rows = []
        for model in STUDENTS:
            k = model[-1]
            low, high = (sweep(f"{model} {k}@{noise}") for noise in (0.5, 0.7))
            rows.append([low.label, k, low.score, low.success, high.score, high.success])
        return rows

    return {
        "pair": pair,
        "scores": scores,
        "against": against,
        "settings": settings,
        "sweep_students": students,
        "steps_of_sweep": STEPS,
        "two_blocks_of_sweep": TWO_BLOCKS,
        "three_blocks_of_sweep": THREE_BLOCKS,
    }


def pictures(data: Path) -> list[Picture]:
    sweep = StudyResults(listed_studies()["sweep"], data)
    shown = {
        "sweep": ("blocks and their first steps", STEPS,
                  "three blocks with steps 0.01 and 0.1 solve the most", ""),
        "sweep_two": ("one change to two blocks", TWO_BLOCKS,
                      "dropout 0 and a trigonometric last block solve the most, independent ends, "
                      "and three frames of history the least", "2 blocks, "),
        "sweep_three": ("one change to three blocks", THREE_BLOCKS,
                        "U-Net blocks solve the most", "3 blocks, "),
    }  # fmt: skip
    return [
        Picture(
            name,
            f"Score and success of settings: {found}",
            score_and_success_rows(
                {
                    sweep.labels[model].removeprefix("" if model == models[0] else prefix): {
                        "16 evaluations": _both(sweep, model)[0],
                        "64 (FM 32 or 64), midpoint": _both(sweep, model)[1],
                    }
                    for model in models
                }
            ),
            title=f"How the settings were chosen: {what}",
            subtitle="selection seeds, 1 training each, n = "
            f"{sweep('n3 16@0.5').n}, noise 0.5; 95% intervals of success",
        )
        for name, (what, models, found, prefix) in shown.items()
    ]


def _both(sweep: StudyResults, model: str) -> list[Cells]:
    """Return the cells of 16 evaluations and of many, from noise 0.5."""
    return [sweep(f"{model} {at}@0.5") for at in ("16", "m32" if model == "fm" else "m64")]
