"""PushT from state: students, and how much noise they start from."""

from __future__ import annotations

from pathlib import Path

from listed import listed_studies

from resultpages.cells import Cells, StudyResults
from resultpages.curves import of_demonstrations, score_and_success_rows
from resultpages.pictures import Picture


def pictures(data: Path) -> list[Picture]:
    studies = {name: StudyResults(one, data) for name, one in listed_studies().items()}
    return [*_of_students(studies["state"]), *_of_noise(studies["noise"])]


def _of_students(state: StudyResults) -> list[Picture]:
    seen: dict[str, dict[str, Cells]] = {
        "LFM, 900 episodes": _points(
            state, "lfm3 16@0.6", "lfm3-2-more 2@0.6", "lfm3-1-more 1@0.6"
        ),
        "LFM, 300 episodes": _points(state, "lfm3 16@0.6", "lfm3-2-seen 2@0.6"),
        "LFM with dropout, 300 episodes": _points(
            state, "n3-large 16@0.6", "n3-large-2-seen 2@0.6", "n3-large-1-seen 1@0.6"
        ),
        "LFM with dropout, demonstrations": _points(
            state, "n3-large 16@0.6", "n3-large-2 2@0.6", "n3-large-1 1@0.6"
        ),
        "FM, 900 episodes": _points(state, "fm 16@0.6", "fm-2-more 2@0.6", "fm-1-more 1@0.6"),
        "FM, 300 episodes": _points(state, "fm 16@0.6", "fm-2-seen 2@0.6", "fm-1-seen 1@0.6"),
        "FM, demonstrations": _points(state, "fm 16@0.6", "fm-2-long 2@0.6", "fm-1-long 1@0.6"),
    }
    first = {
        family: _points(state, teacher, f"{name}-2 2@0.6", f"{name}-1 1@0.6", f"{name}-4 4@0.6")
        for family, name, teacher in (
            ("LFM, 2 blocks", "lfm", "lfm m64@0.6"),
            ("FM", "fm", "fm m32@0.6"),
        )
    }
    longer = {
        "LFM, three times as long": _points(
            state, "lfm m64@0.6", "lfm-2-long 2@0.6", "lfm-1-long 1@0.6"
        ),
        "FM, three times as long": _points(
            state, "fm m32@0.6", "fm-2-long 2@0.6", "fm-1-long 1@0.6"
        ),
    }
    methods = {
        "regression": "lfm-2-regression 2@0.6",
        "progressive halving": "lfm-2-progressive 2@0.6",
        "consistency": "lfm-2-consistency 2@0.6",
        "distribution matching": "lfm-2-distribution 2@1",
    }
    return [
        Picture(
            "distillation",
            "Score and success of teachers and students by what students learned from: with 900 "
            "recorded episodes LFM's students reach their teacher, FM's do with any",
            score_and_success_rows(seen),
            title="Students, by what they learned from",
            subtitle="demonstrations and so many recorded episodes of the teacher, or those alone\n"
            + of_demonstrations(state("lfm3 16@0.6"))
            + " (fewer in rows 2 and 4)",
        ),
        Picture(
            "first_students",
            "Score and success of the first students and their teachers: those of one evaluation "
            "lose success, and less when they train three times as long",
            score_and_success_rows(first | longer),
            title="Students of demonstrations alone",
            subtitle=of_demonstrations(state("lfm-2 2@0.6")),
        ),
        Picture(
            "distillation_methods",
            "Score and success of four methods of distillation at equal cost: regression is the "
            "best",
            score_and_success_rows(
                {name: {"student of 2": state(at)} for name, at in methods.items()}
            ),
            title="Methods of distillation at equal cost",
            subtitle=of_demonstrations(state("lfm-2-regression 2@0.6")),
        ),
    ]


def _points(
    state: StudyResults, teacher: str, two: str, one: str = "", four: str = ""
) -> dict[str, Cells]:
    """Return the cells of a row by what they are; ``""`` where there are none."""
    cells = {"teacher": teacher, "student of 2": two, "student of 1": one, "student of 4": four}
    return {name: state(at) for name, at in cells.items() if at}


def _of_noise(noise: StudyResults) -> list[Picture]:
    rows = {
        f"{family}, student of {k}": {
            f"noise {scale}": noise(f"{name}-{k} {k}@{scale}") for scale in (0.6, 0.5, 0.4)
        }
        for family, name in (("LFM", "lfm"), ("FM", "fm"))
        for k in (2, 1)
    }
    return [
        Picture(
            "noise",
            "Score and success of students by the noise they start from: less than they learned "
            "with does not help",
            score_and_success_rows(rows),
            title="Noise that students start from, on selection seeds",
            subtitle=f"all learned with 0.6; {of_demonstrations(noise('lfm-2 2@0.6'))}",
        )
    ]
