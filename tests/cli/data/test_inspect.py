"""``lfm-policy inspect``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.policy import find_checkpoint

Command = Callable[..., Any]


@pytest.fixture(params=["dataset", "run", "checkpoint"])
def path(request: pytest.FixtureRequest, small_zarr: Path, small_run: Path) -> Path:
    paths = {"dataset": small_zarr, "run": small_run, "checkpoint": find_checkpoint(small_run)}
    return paths[request.param]


def is_png(path: Path) -> bool:
    content = path.read_bytes()
    return content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")


def test_text_and_plot(command: Command, path: Path, tmp_path: Path) -> None:
    plot = tmp_path / "new" / "plot.png"
    result = command("inspect", path, "--plot", plot)
    assert result.code == 0, result.err
    assert "agent_pos" in result.out and f"written: {plot}" in result.out
    assert is_png(plot)


def test_json(command: Command, path: Path, tmp_path: Path) -> None:
    result = command("inspect", path, "--json", "--plot", tmp_path / "plot.png", "--seed", "3")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["kind"] in ("dataset", "checkpoint")
    assert is_png(tmp_path / "plot.png")


def test_nothing_is_written_unless_asked(command: Command, small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    before = sorted(run.rglob("*"))
    assert command("inspect", run).code == 0
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("name", ["plot.jpg", "plot", ".png/"])
def test_the_plot_is_a_png(command: Command, path: Path, tmp_path: Path, name: str) -> None:
    result = command("inspect", path, "--plot", tmp_path / name)
    assert result.code == 2
    assert "expected a name that ends in .png" in result.err and not result.out


def test_missing_path(command: Command, tmp_path: Path) -> None:
    result = command("inspect", tmp_path / "missing")
    assert result.code == 2
    assert result.err == f"error: {tmp_path / 'missing'}: no such file or folder\n"


def test_neither_dataset_nor_checkpoint(command: Command, tmp_path: Path) -> None:
    result = command("inspect", tmp_path)
    assert result.code == 2 and "not a zarr store" in result.err
    (tmp_path / "file.txt").write_text("text")
    result = command("inspect", tmp_path / "file.txt")
    assert result.code == 2 and "file.txt" in result.err


def test_damaged_checkpoint(command: Command, small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    config = find_checkpoint(run) / "config.json"
    config.write_text(config.read_text().replace("0.2", "0.3", 1))
    result = command("inspect", run)
    assert result.code == 2
    assert f"error: {config}: its content does not match its checksum" in result.err


def test_damaged_dataset(command: Command, tmp_path: Path) -> None:
    data = tmp_path / "data.zarr"
    arrays = {"action": np.zeros((5, 2), np.float32)}
    write_zarr(data, ReplayBuffer(arrays, np.array([5])))
    (data / "data" / "action" / "0.0").unlink()
    result = command("inspect", data)
    assert result.code == 2 and "data/action" in result.err


def test_a_plot_that_cannot_be_written(command: Command, path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = command("inspect", path, "--plot", tmp_path / "file" / "plot.png")
    assert result.code == 2 and result.err.startswith("error: [Errno")
