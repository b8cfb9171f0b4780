"""Write the model cards of the policies that the package carries.

Their figures are in docs/results/data/bundled.json, which is made of what `lfm-policy eval` wrote;
the milliseconds are those of docs/results/data/latency.json. After a new bundle or evaluation:

    lfm-policy eval pusht-state --episodes 1000 --output runs/bundled/pusht-state
    python scripts/tools/bundled_cards.py --evaluated pusht-state=runs/bundled/pusht-state/eval.json
    python scripts/tools/bundled_cards.py    # the cards alone
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lfm_policy.assets import POLICIES, bundled_policy
from lfm_policy.policy import read_header
from lfm_policy.policy.checkpoint_writer import CARD_FILE
from lfm_policy.sharing.card import model_card
from lfm_policy.sharing.front_matter import CardOptions
from lfm_policy.sharing.reports import read_reports
from lfm_runtime.disk.files import write_text

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "data"
FIGURES, LATENCIES = RESULTS / "bundled.json", RESULTS / "latency.json"
LICENSE = "mit"
_TASK = "Pushes a T-shaped block onto its place with a round agent, in the simulation PushT"
_COMES = "It comes with the package, its weights in half precision."
_HUMAN = "the 206 human demonstrations of PushT that Diffusion Policy published"
DESCRIPTIONS = {
    "pusht-state": f"{_TASK}, told where both are. {_COMES}",
    "pusht-state-teacher": f"{_TASK}, told where both are; the teacher of `pusht-state`, and what "
    f"made the demonstrations of the package. {_COMES}",
    "pusht-image": f"{_TASK}, from camera images. {_COMES} Its times are those of the policy that "
    "was here before, of 3% fewer multiplications.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--evaluated", action="append", default=[], metavar="POLICY=EVAL.JSON", help="new figures"
    )
    figures: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for text in parser.parse_args().evaluated:
        name, _, path = text.partition("=")
        figures[name] = shortened(json.loads(Path(path).read_text()))
    lines = [f'"{name}": {json.dumps(figures[name])}' for name in POLICIES]
    write_text(FIGURES, "{\n" + ",\n".join(lines) + "\n}\n")
    for name in POLICIES:
        write_text(bundled_policy(name) / CARD_FILE, card_of(name))
        print(f"written: {bundled_policy(name) / CARD_FILE}")


def card_of(name: str) -> str:
    """Return the card of a policy of the package, made of the stored figures.

    Raises:
        InputError: the figures are of other weights.
    """
    header = read_header(bundled_policy(name))
    report = json.loads(FIGURES.read_text())[name]
    for cell in report["cells"]:
        cell["latency"] = latency_of(name, cell["nfe"])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "eval.json"
        write_text(path, json.dumps(report))
        measured = read_reports([path], header, insist=True)
    options = CardOptions(name, license=LICENSE, description=DESCRIPTIONS[name], data_note=_HUMAN)
    return model_card(header, measured, options)


def shortened(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a card needs of a report, and what says how it was made."""
    kept = ("checkpoint_sha256", "n_action_steps", "config", "versions")
    cells = [
        {key: cell[key] for key in ("summary", "solver", "nfe", "noise_scale")}
        | {"episodes": [{"max_reward": round(e["max_reward"], 4)} for e in cell["episodes"]]}
        for cell in report["cells"]
    ]
    return {key: report[key] for key in kept if key in report} | {"cells": cells}


def latency_of(name: str, nfe: float) -> dict[str, Any]:
    """Return the stored milliseconds of a policy on one thread."""
    rows = json.loads(LATENCIES.read_text())["rows"]
    (row,) = (
        row
        for row in rows
        if (row["policy"], row["nfe"], row["engine"], row["threads"]) == (name, nfe, "eager", 1)
        and not row["one_block"]
    )
    return {key: row[key] for key in ("median_ms", "p95_ms", "threads")} | {"device": "cpu"}


if __name__ == "__main__":
    main()
