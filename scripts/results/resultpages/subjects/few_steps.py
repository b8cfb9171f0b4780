"""PushT from state: score and success against network evaluations; U-Nets; dropout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from listed import listed_studies

from resultpages.cells import Cells, StudyResults
from resultpages.curves import (
    EVALUATIONS,
    FROM_NOISE,
    of,
    of_demonstrations,
    score_and_success,
    score_and_success_rows,
)
from resultpages.pictures import Picture


def names(data: Path) -> dict[str, Any]:
    latency = json.loads((data / "latency.json").read_text())["rows"]
    cards = json.loads((data / "bundled.json").read_text())

    def ms(label: str) -> float:
        """Return milliseconds of a chunk in PyTorch on one thread."""
        (row,) = (
            row
            for row in latency
            if (row["label"], row["engine"], row["threads"]) == (label, "eager", 1)
        )
        return float(row["median_ms"])

    def bundled(name: str) -> dict[str, Any]:
        """Return what the card of a policy in the package says."""
        (cell,) = cards[name]["cells"]
        return dict(cell["summary"])

    return {"ms": ms, "bundled": bundled}


def pictures(data: Path) -> list[Picture]:
    state = StudyResults(listed_studies()["state"], data)

    def cells(*names: str) -> list[Cells]:
        return [state(name) for name in names]

    unet = {
        "LFM, 3 U-Net blocks": [f"lfm3-unet {k}@0.6" for k in (3, 6, 16)],
        "its students": [f"lfm3-unet-{k} {k}@0.6" for k in (1, 2)],
        "FM, one U-Net": [f"fm-unet {k}@0.6" for k in (3, 6, 16)],
        "LFM, 3 MLP blocks": [f"lfm3 {k}@0.6" for k in (3, 6, 9, 16)],
        "FM, MLP": [f"fm {k}@1" for k in (1, 2, 4, 8)] + ["fm 16@0.6"],
    }
    mlp = {
        "LFM, 3 MLP blocks": unet["LFM, 3 MLP blocks"],
        "its students": [f"lfm3-{k}-more {k}@0.6" for k in (1, 2)],
        "FM": unet["FM, MLP"],
        "FM's students": [f"fm-{k}-more {k}@0.6" for k in (1, 2)],
        "regression, two-step regression": ["regression 1", "mip 2"],
    }
    dropout = {
        "LFM, 3 MLP blocks": ("n3-large", "lfm3"),
        "FM": ("fm", "fm-dropout-0"),
        "FM of 2.0 M parameters": ("fm-wider", "fm-wider-dropout-0"),
    }
    unet_one, large_dry = state("lfm3-unet-1 1@0.6"), state("fm-wider-dropout-0 16@0.6")
    subtitle = of_demonstrations(state("lfm3 16@0.6"))
    return [
        Picture(
            "few_steps",
            "Score and success against network evaluations: LFM's students of one and two keep "
            "what their teacher has with 16; FM and its students have less",
            score_and_success({k: cells(*v) for k, v in mlp.items()}, **EVALUATIONS),
            title="PushT from state: few evaluations",
            subtitle=f"{subtitle}\n{FROM_NOISE.format('FM')}",
        ),
        Picture(
            "unet",
            "Score and success against network evaluations of U-Nets and MLPs: LFM's U-Nets are "
            "the best with 6 and 16, FM's U-Net needs more evaluations and has less",
            score_and_success({k: cells(*v) for k, v in unet.items()}, **EVALUATIONS),
            title="PushT from state: U-Nets and MLPs",
            subtitle=f"{subtitle}\n(the student of one evaluation: {of(unet_one)})\n"
            f"{FROM_NOISE.format('FM as an MLP')}",
        ),
        Picture(
            "dropout",
            "Score and success with and without dropout: LFM gains without, FM does not",
            score_and_success_rows(
                {
                    name: {
                        "dropout 0.1": state(f"{wet} 16@0.6"),
                        "no dropout": state(f"{dry} 16@0.6"),
                    }
                    for name, (wet, dry) in dropout.items()
                }
            ),
            title="PushT from state: dropout",
            subtitle=f"{subtitle}\n(FM of 2.0 M parameters without: {of(large_dry)})",
        ),
    ]
