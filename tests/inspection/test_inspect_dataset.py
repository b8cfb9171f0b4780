"""What is said about demonstrations."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr_store import load_zarr, write_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import dataset as module
from lfm_policy.inspection import inspect_dataset

KEYS = ("action", "agent_pos", "pose")


def png_size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG after checking its signature and its end."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_numbers_are_those_of_the_data(small_zarr: Path) -> None:
    found = inspect_dataset(small_zarr).to_dict()
    json.dumps(found, allow_nan=False)
    buffer = load_zarr(small_zarr, KEYS)
    assert found["kind"] == "dataset"
    assert found["episodes"] == 6
    assert found["steps"] == buffer.n_steps == 70
    assert found["episode_length"] == {"min": 9, "median": 11.5, "max": 15}
    assert set(found["arrays"]) == set(KEYS)
    for key in KEYS:
        values = buffer.arrays[key].astype(np.float64)
        described = found["arrays"][key]
        assert described["shape"] == list(values.shape)
        assert described["dtype"] == "float32"
        np.testing.assert_allclose(described["min"], values.min(axis=0))
        np.testing.assert_allclose(described["max"], values.max(axis=0))
        np.testing.assert_allclose(described["mean"], values.mean(axis=0))
        np.testing.assert_allclose(described["std"], values.std(axis=0))


def test_print(small_zarr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect_dataset(small_zarr).print()
    text = capsys.readouterr().out
    assert f"{small_zarr}: 6 episodes, 70 steps; lengths 9 to 15, median 11.5" in text
    for key in KEYS:
        assert f"data/{key}" in text
    assert "(70, 4)" in text and "float32" in text


@pytest.mark.parametrize("action_dim", [1, 2, 7])
def test_plot(tmp_path: Path, action_dim: int) -> None:
    arrays = {"action": np.random.default_rng(0).normal(size=(20, action_dim))}
    write_zarr(tmp_path / "data.zarr", ReplayBuffer(arrays, np.array([8, 20])))
    path = tmp_path / "new" / "plot.png"
    inspect_dataset(tmp_path / "data.zarr").plot(path)
    width, height = png_size(path)
    assert width > 1000 and height > 300
    assert list(path.parent.iterdir()) == [path]


def test_the_seed_chooses_the_episodes_that_are_drawn(small_zarr: Path, tmp_path: Path) -> None:
    pictures = []
    for seed in (0, 0, 1):
        arrays = {"action": np.random.default_rng(0).normal(size=(60, 2))}
        data = tmp_path / "many.zarr"
        if not data.exists():
            write_zarr(data, ReplayBuffer(arrays, np.arange(2, 61, 2)))
        inspect_dataset(data, seed=seed).plot(tmp_path / "plot.png")
        pictures.append((tmp_path / "plot.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_large_arrays_are_not_read(
    small_zarr: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(module, "LARGEST_READ_BYTES", 600)  # action and agent_pos have 560
    inspection = inspect_dataset(small_zarr)
    assert set(inspection.buffer.arrays) == {"action", "agent_pos"}
    assert inspection.to_dict()["arrays"]["pose"] == {"shape": [70, 4], "dtype": "float32"}
    inspection.print()
    assert "large: not read" in capsys.readouterr().out


def test_zip(small_zarr: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.zarr.zip"
    write_zarr(path, load_zarr(small_zarr, KEYS))
    expected = inspect_dataset(small_zarr).to_dict() | {"path": str(path)}
    assert inspect_dataset(path).to_dict() == expected


def test_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a zarr store"):
        inspect_dataset(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        inspect_dataset(tmp_path / "file")


def test_human_demonstrations(pusht_zarr: Path) -> None:
    found = inspect_dataset(pusht_zarr).to_dict()
    assert (found["episodes"], found["steps"]) == (206, 25_650)
    assert found["arrays"]["state"]["shape"] == [25_650, 5]
