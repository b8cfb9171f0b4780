"""PushT from camera images: how the blocks share an encoder."""

from __future__ import annotations

from pathlib import Path

from listed import listed_studies

from resultpages.cells import StudyResults
from resultpages.curves import score_and_success_rows
from resultpages.pictures import Picture


def pictures(data: Path) -> list[Picture]:
    """Return score and success of every way to share an encoder."""
    encoders = StudyResults(listed_studies()["encoders"], data)
    found = [cells for cells in encoders.rows("encoders") if cells.solver == "midpoint"]
    return [
        Picture(
            "encoders",
            "Score and success by the way the encoder learns: best with all blocks at once, worst "
            "with the first block",
            score_and_success_rows({one.label: {"64 evaluations": one} for one in found}),
            title="How the encoder learns",
            subtitle="PushT from images, 16,000 gradient steps in all, one training, n = 200 "
            "selection seeds; 95% intervals",
        )
    ]
