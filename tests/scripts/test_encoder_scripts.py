"""The scripts that compare variants of the compact encoder: what they cost, and what they tell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.encoders.image_options import CompactConfig

SCRIPTS = Path(__file__).parents[2] / "scripts"


def imported(monkeypatch: pytest.MonkeyPatch, folder: str, name: str) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS / folder))
    module = __import__(name)
    monkeypatch.delitem(sys.modules, name)
    return module


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = imported(monkeypatch, "studies", "encoder_probe")
    monkeypatch.setitem(sys.modules, "encoder_probe", module)  # where dataclasses look
    return module


@pytest.fixture
def small_pusht(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    ends = np.arange(1, 11) * 20
    state = rng.uniform(50, 450, (200, 5)).astype(np.float32)
    arrays = {
        "action": rng.uniform(0, 512, (200, 2)).astype(np.float32),
        "img": rng.integers(0, 255, (200, 96, 96, 3), np.uint8),
        "state": state,
    }
    write_zarr(tmp_path / "pusht.zarr", ReplayBuffer(arrays, ends))
    return tmp_path / "pusht.zarr"


def test_variants_are_options_of_the_compact_encoder() -> None:
    variants = yaml.safe_load((SCRIPTS / "studies" / "encoders.yaml").read_text())
    built = {name: CompactConfig(**options) for name, options in variants.items()}
    assert built.pop("compact") == CompactConfig()
    assert all(config != CompactConfig() for config in built.values())


@pytest.mark.slow
@pytest.mark.parametrize(("history", "told"), [(1, 3), (2, 5)])
def test_the_probe_prints_a_row_for_every_variant(
    probe: Any,
    small_pusht: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    history: int,
    told: int,
) -> None:
    arguments = ["--dataset", str(small_pusht), "--cache", str(small_pusht.parent / "cache")]
    arguments += ["--variants", "compact", "--option", "width=8", "--option", "history=differences"]
    arguments += ["--steps", "3", "--batch-size", "4", "--history", str(history)]
    monkeypatch.setattr(sys, "argv", ["encoder_probe", *arguments])
    probe.main()
    lines = capsys.readouterr().out.splitlines()
    for line, name in zip(lines, ("compact", "width=8 history=differences"), strict=False):
        assert line.startswith(f"{name}: agent ") and line.count(",") == 2 * told - 1
    assert [line.split("  ")[0] for line in lines[-2:]] == [
        "compact",
        "width=8 history=differences",
    ]


class Known(torch.nn.Module):
    """A probe that is told the answer, but for a shift."""

    def __init__(self, states: Any, shift: torch.Tensor, probe: Any) -> None:
        super().__init__()
        self._centre, self._scale = probe.scales_of(6)
        self._targets = [states.batch(i)[1] for i in torch.arange(len(states)).split(256)]
        self._shift = shift

    def forward(self, obs: Any) -> torch.Tensor:
        target = self._targets.pop(0) + self._shift
        return (target - self._centre) / self._scale


class Answers:
    """Windows whose answers are random states."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        angle = 6 * torch.rand(300, 1, generator=rng)
        places = 96 * torch.rand(300, 4, generator=rng)
        self._targets = torch.cat([places, angle.cos(), angle.sin()], 1)

    def __len__(self) -> int:
        return 300

    def batch(self, idx: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        return {}, self._targets[idx]


def test_errors_are_distances_in_pixels_and_angles_in_degrees(probe: Any) -> None:
    settings = probe.Settings(1, 1, 1.0, 1, [84, 84], 0, torch.device("cpu"), False)
    states = Answers()
    exact = probe.errors_of(Known(states, torch.zeros(6), probe), states, settings)
    assert max(exact.values()) < 1e-2
    shift = torch.tensor([3.0, 4.0, 0.0, -2.0, 0.0, 0.0])
    found = probe.errors_of(Known(states, shift, probe), states, settings)
    assert found["agent"] == pytest.approx(5, abs=1e-4)
    assert found["block p90"] == pytest.approx(2, abs=1e-4)
    assert found["angle"] < 1e-2


@pytest.mark.slow
def test_the_benchmark_compares_exports_and_writes_its_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoders = imported(monkeypatch, "benchmarks", "encoders")
    arguments = ["--variants", "compact", "--size", "24", "20", "--crop", "20", "16"]
    arguments += ["--turns", "1", "--data", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["encoders", *arguments])
    encoders.main()
    (row,) = json.loads((tmp_path / "encoders.json").read_text())["rows"]
    assert (row["variant"], row["features"], row["parameters"]) == ("compact", 64, 65_441)
    assert row["frame_s"] > 0 and row["history_s"] > 0 and row["step_s"] > 0 and row["mflop"] > 0
    assert "65,441" in capsys.readouterr().out
