"""The figure that the first page of the results begins with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from listed import listed_studies

from resultpages.cells import StudyResults
from resultpages.curves import EVALUATIONS, FROM_NOISE, score_and_success
from resultpages.pictures import Picture


def pictures(data: Path) -> list[Picture]:
    """Return success against network evaluations."""
    state = StudyResults(listed_studies()["state"], data)
    lines = {
        "LFM's students": ["lfm3-1-more 1@0.6", "lfm3-2-more 2@0.6"],
        "LFM, their teacher": [f"lfm3 {k}@0.6" for k in (3, 6, 9, 16)],
        "one global flow (FM)": [f"fm {k}@1" for k in (1, 2, 4, 8)] + ["fm 16@0.6"],
        "FM's students": ["fm-1-more 1@0.6", "fm-2-more 2@0.6"],
        "regression, two-step regression": ["regression 1", "mip 2"],
    }
    _, success = score_and_success(
        {label: [state(at) for at in line] for label, line in lines.items()}, **EVALUATIONS
    )
    return [
        Picture(
            "overview",
            "Success against network evaluations: LFM's students of one and two evaluations solve "
            "about as many episodes as their teacher, one global flow fewer with any number",
            (replace(success, from_zero=True),),
            title="Success against network evaluations",
            subtitle="PushT from state, 206 human demonstrations, 3 trainings, n = 600, "
            f"95% intervals\n{FROM_NOISE.format('FM')}",
        )
    ]
