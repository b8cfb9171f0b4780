"""The page of methods has a row once its data are there, and nothing that was not measured."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("methods", "methods-unet", "methods-blocks", "methods-seconds")


@pytest.fixture()
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the package of `scripts/results`."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts" / "results"), *sys.path])
    import resultpages.pages

    yield resultpages.pages
    own = ("resultpages", "listed", "pieces", "commands", "bundled_cards")
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in own:
            del sys.modules[name]


@pytest.fixture()
def data(made: Any, tmp_path: Path) -> Path:
    """Return a copy of what is measured of what other parts of the study have as well."""
    from listed import listed_studies

    folder = tmp_path / "docs" / "results" / "data"
    shutil.copytree(ROOT / "docs" / "results" / "data", folder)
    path = folder / "pusht_state.json"
    cells = json.loads(path.read_text())
    parts = listed_studies()["state"].parts.items()
    kept = {at[0] for name, part in parts if name not in PARTS for at in part.rows}
    path.write_text(json.dumps({k: v for k, v in cells.items() if k.split()[0] in kept}))
    for name in ("pusht_chunks.json", "pusht_costs.json"):
        (folder / name).unlink(missing_ok=True)
    return folder


def add(data: Path, key: str, *, solved: int, score: float, nfe: int, **changes: Any) -> None:
    """Add a made-up cell of 200 episodes of which the first ones are solved."""
    path = data / "pusht_state.json"
    cells = json.loads(path.read_text())
    cells[f"{key} n200 from100000"] = {
        "solver": "euler",
        "nfe": float(nfe),
        "noise_scale": 0.6,
        "summary": {"n": 200, "successes": solved, "success_rate": solved / 200, "score": score},
        "training": {
            "block_steps": [24000],
            "steps": 24000,
            "train_seconds": 800.0,
            "push_seconds": 0.0,
            "parameters": {"total": 671_328},
        },
        "max_reward": [score] * 200,
        "success": "1" * solved + "0" * (200 - solved),
        **changes,
    }
    path.write_text(json.dumps(cells))


def table_of(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table after a heading, without its head."""
    lines = page.split(f"# {heading}\n", 1)[1].split("\n")
    first = next(at for at, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def page_of(made: Any, data: Path) -> str:
    return str(made.Results(data.parents[2]).page("methods"))


def test_what_is_not_measured_is_not_on_the_page(made: Any, data: Path) -> None:
    page = page_of(made, data)
    labels = {row[0] for row in table_of(page, "Methods")}
    assert {"FM", "regression", "two-step regression (MIP)"} <= labels
    assert not labels & {"mean flow", "shortcut", "Diffusion Policy", "FM, no dropout, robust"}
    assert "What a robot feels" not in page and "Networks of mean velocities" not in page
    assert all(row[5:] == ["–", "–"] for row in table_of(page, "What it costs"))
    (fm, *_) = table_of(page, "Methods")
    assert fm[:2] == ["FM", "1"] and fm[2] == "0.652 / 0.087" and fm[5].endswith("(16)")


def test_rows_are_there_once_their_data_are(made: Any, data: Path) -> None:
    for seed, solved in ((0, 50), (1, 70)):
        add(data, f"mean-flow seed{seed} euler1-noise0.6", solved=solved, score=0.7, nfe=1)
    add(data, "mean-flow seed0 euler4-noise0.6", solved=110, score=0.8, nfe=4)
    add(data, "mean-flow seed0 euler16-noise0.6", solved=100, score=0.8, nfe=16)
    diffusion = {"noise_scale": 1.0, "solver": "dpmsolver++"}
    add(
        data,
        "diffusion-mlp seed0 dpmsolver++4-noise1",
        solved=20,
        score=0.5,
        nfe=4,
        **diffusion,
    )
    page = page_of(made, data)
    rows = {row[0]: row[1:] for row in table_of(page, "Methods")}
    assert "FM" in rows  # all of its trainings are measured, which need not be said
    few = ["0.700 / 0.300", "–", "0.800 / 0.550", "0.800 / 0.550 (4)"]
    assert rows["mean flow (1 training)"] == ["0.6", *few]
    solver = ["1", "–", "–", "0.500 / 0.100", "0.500 / 0.100 (4)"]
    assert rows["Diffusion Policy, DPM-Solver++ (1 training)"] == solver
    assert "One evaluation of mean flow has 0.700 / 0.300" in page
    # Of one training alone the sentence about DDPM and DDIM cannot be said.
    assert "with 100 evaluations and" not in page


def test_blocks_have_a_column_for_each_evaluation_per_block(made: Any, data: Path) -> None:
    blocks = {"training": {"block_steps": [12000, 12000], "steps": 24000, "train_seconds": 1.0,
                           "push_seconds": 0.0, "parameters": {"total": 1}}}  # fmt: skip
    add(data, "lfm2-robust seed0 euler2-noise0.6", solved=80, score=0.9, nfe=2, **blocks)
    add(data, "lfm2-robust seed0 euler4-noise0.6", solved=90, score=0.9, nfe=4, **blocks)
    rows = {row[0]: row[1:] for row in table_of(page_of(made, data), "Local blocks")}
    found = rows["LFM, 2 MLP blocks, no dropout and robust (1 training)"]
    assert found == ["0.6", "0.900 / 0.400", "0.900 / 0.450", "0.900 / 0.450 (4)"]


def test_costs_and_what_a_robot_feels(made: Any, data: Path) -> None:
    costs = {
        "computer": {},
        "steps": {"fm": 20.0},
        "chunks": {
            "fm euler1-noise1": {"median_ms": 0.123},
            "fm euler16-noise0.6": {"median_ms": 1.5},
        },
    }
    (data / "pusht_costs.json").write_text(json.dumps(costs))

    def felt(jerk: float, kept: float) -> dict[str, Any]:
        return {
            "smoothness": {"jerk_at_joins": jerk, "jerk_ratio": 3.0},
            "outside_demonstrations": {"share_of_chunks": 0.012},
            "outside_rollouts": {"share_of_chunks": 0.2},
            "ways": {"kept": kept, "between": 0.04, "n_two_ways": 30, "n_instants": 200},
        }

    settings = {"episodes": 7, "samples": 64}
    cells = {
        "fm seed0 euler16-noise0.6": felt(20_000.0, 0.5),
        "fm seed1 euler16-noise0.6": felt(40_000.0, 0.7),
        "regression seed0 euler1": felt(5_000.0, 0.0),
    }
    chunks = {"settings": settings, "cells": cells}
    (data / "pusht_chunks.json").write_text(json.dumps(chunks))
    page = page_of(made, data)
    (fm, *_) = table_of(page, "What it costs")
    assert fm[0] == "FM" and fm[5:] == ["480", "0.12 (1), 1.5 (16)"]
    felt_rows = table_of(page, "What a robot feels")
    assert felt_rows == [
        ["FM", "16, noise 0.6", "30", "3.0", "1.2%", "20.0%", "60%", "4%"],
        ["regression", "1", "5", "3.0", "1.2%", "20.0%", "0%", "4%"],
    ]
    assert "60 of 400 instants" in page and "Of\n  7 episodes" in page
