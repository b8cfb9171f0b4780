"""PushT from state: score and success against network evaluations."""

from __future__ import annotations

from pathlib import Path

from listed import listed_studies

from resultpages.cells import StudyResults
from resultpages.curves import EVALUATIONS, score_and_success
from resultpages.pictures import Picture


def pictures(data: Path) -> list[Picture]:
    state = StudyResults(listed_studies()["state"], data)
    lines = {
        "LFM, 3 MLP blocks": [f"lfm3 {k}@0.6" for k in (3, 6, 9, 16)],
        "its students": ["lfm3-1-more 1@0.6", "lfm3-2-more 2@0.6"],
        "FM": [f"fm {k}@1" for k in (1, 2, 4, 8)] + ["fm 16@0.6"],
        "FM's students": ["fm-1-more 1@0.6", "fm-2-more 2@0.6"],
        "regression, two-step regression": ["regression 1", "mip 2"],
    }
    return [
        Picture(
            "few_steps",
            "Score and success against network evaluations: LFM's students with one and two keep "
            "what their teacher has with 16, FM needs more and has less",
            score_and_success(
                {label: [state(at) for at in line] for label, line in lines.items()},
                **EVALUATIONS,
            ),
            title="PushT from state",
            subtitle="206 human demonstrations, 3 training seeds, n = 600; 95% intervals",
        )
    ]
