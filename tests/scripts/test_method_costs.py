"""What methods cost alone: which steps and chunks are measured, and under which keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lfm_policy.cli.main import main as lfm_policy
from lfm_policy.policy import read_header

STUDIES = Path(__file__).resolve().parents[2] / "scripts" / "studies"


@pytest.fixture()
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(STUDIES))
    import method_costs

    for name in ("commands", "pieces", "listed", "method_costs"):
        monkeypatch.delitem(sys.modules, name)
    return method_costs


class InProcess:
    """Commands that are run here."""

    def run(self, *arguments: str) -> None:
        assert lfm_policy([*arguments]) == 0


def test_samplers_that_are_exported_have_keys_of_their_own(script: Any) -> None:
    import listed

    texts = ("1@0.6", "1@0.4", "3@0.6", "3@0.6~1", "1.1.2@0.6", "ddim10@1", "ddpm100@1")
    keys = [*script.exported("fm", [listed.sampler_of(text) for text in texts])]
    assert keys == [
        *("fm euler1-noise0.6", "fm euler1-noise0.4", "fm euler3-noise0.6"),
        *("fm euler3-noise0.6-renoise1", "fm euler1.1.2-noise0.6", "fm ddim10-noise1"),
    ]


def test_what_is_in_the_file_is_not_measured_again(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    monkeypatch.setattr(script, "short_training", lambda *_: measured.append("step") or 20.0)
    monkeypatch.setattr(script, "chunk_ms", lambda *_: measured.append("chunk") or {"median_ms": 1})
    arguments = ["--parts", "methods", "--models", "fm", "mip", "fm-1-more"]
    arguments += ["--output", str(tmp_path / "runs"), "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["method_costs", "--dataset", "d.zarr", *arguments])
    for _ in range(2):
        script.main()
    found = json.loads((tmp_path / script.FILE).read_text())
    assert found["steps"] == {"fm": 20.0, "mip": 20.0}
    assert {"fm euler16-noise1", "fm euler16-noise0.6"} <= set(found["chunks"])
    assert not any(key.startswith("fm-1-more") for key in found["chunks"])  # no run of a student
    assert measured.count("step") == 2 and measured.count("chunk") == len(found["chunks"])


@pytest.mark.slow
def test_a_chunk_is_timed_with_its_sampler(
    script: Any, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def timed(call: Any, repeats: int) -> list[float]:
        seen.append(call().nfe)
        return [1.0, 2.0, 3.0]

    monkeypatch.setattr(script, "timed", timed)
    sampler = SimpleNamespace(options=lambda: ["--nfe", "1,2", "--noise-scale", "0.5"])
    found = script.chunk_ms(InProcess(), small_run, sampler)
    assert seen == [3]
    assert found == {"median_ms": 2.0, "p95_ms": pytest.approx(2.9)}


@pytest.mark.slow
def test_a_step_is_timed_by_a_short_training(
    script: Any, small_config: Path, small_zarr: Path, tmp_path: Path
) -> None:
    model = SimpleNamespace(overrides=("network.width=8",), config=str(small_config))
    folder = tmp_path / "short"
    assert script.short_training(InProcess(), model, small_zarr, 3, folder) > 0
    assert read_header(folder).training["steps"] == 3
