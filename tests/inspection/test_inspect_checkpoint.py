"""What is said about a checkpoint or a run."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from lfm_policy import load_policy
from lfm_policy.checkpoint_folders import is_checkpoint
from lfm_policy.config import config_from_dict
from lfm_policy.errors import InputError
from lfm_policy.inspection.checkpoint import inspect_checkpoint
from lfm_policy.policy import find_checkpoint


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished run."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def test_dictionary(small_run: Path) -> None:
    found = inspect_checkpoint(small_run).to_dict()
    json.dumps(found, allow_nan=False)
    policy = load_policy(small_run)
    assert found["kind"] == "checkpoint"
    assert found["path"] == str(find_checkpoint(small_run))
    assert found["sha256"] == policy.info["sha256"]
    assert config_from_dict(found["config"], "again") == policy.config
    assert found["data"]["obs_shapes"] == {"agent_pos": [2], "pose": [4]}
    assert found["data"]["action_dim"] == 2
    assert found["training"]["steps"] == 8 and found["training"]["complete"] is True
    assert found["training"]["parameters"] == policy.model.parameter_counts()
    assert set(found["normalizer"]) == {"action", "agent_pos", "pose"}
    for key in found["normalizer"]:
        assert found["normalizer"][key]["max"] == policy.normalizer[key].max.tolist()
    steps = [r["step"] for r in found["metrics"] if r["kind"] == "train"]
    assert steps == list(range(1, 9))


def test_print(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect_checkpoint(small_run).print()
    text = capsys.readouterr().out
    assert "training complete" in text
    assert "observations: agent_pos (2,), pose (4,); action: (2,)" in text
    for part in ("encoder", "block 1", "block 2", "total", "normaliser", "agent_pos"):
        assert part in text
    assert f"{load_policy(small_run).model.parameter_counts()['total']:,}" in text
    assert "total_steps: 8" in text and "n_blocks: 2" in text


def test_plot(small_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    inspect_checkpoint(small_run).plot(path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000 and height > 300


def test_a_checkpoint_away_from_its_run(run: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(find_checkpoint(run), tmp_path / "alone" / "final"))
    inspection = inspect_checkpoint(alone)
    assert inspection.metrics == []
    inspection.print()
    with pytest.raises(InputError, match="there is no metrics.jsonl beside it to draw"):
        inspection.plot(tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()


def test_the_checkpoint_inside_a_run_finds_the_metrics(run: Path) -> None:
    assert inspect_checkpoint(find_checkpoint(run)).metrics == inspect_checkpoint(run).metrics


def test_metrics_cut_off_by_a_crash(run: Path, tmp_path: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines)[:-5])
    assert len(inspect_checkpoint(run).metrics) == len(lines) - 1
    inspect_checkpoint(run).plot(tmp_path / "plot.png")


def test_a_damaged_checkpoint(run: Path) -> None:
    path = find_checkpoint(run) / "normalizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="does not match the checksum"):
        inspect_checkpoint(run)


def test_is_checkpoint(small_run: Path, small_zarr: Path, tmp_path: Path) -> None:
    assert is_checkpoint(small_run)
    assert is_checkpoint(find_checkpoint(small_run))
    assert not is_checkpoint(small_zarr)
    assert not is_checkpoint(tmp_path)
    assert not is_checkpoint(tmp_path / "missing")
