"""``lfm-policy convert``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import list_zarr, load_zarr, write_zarr

Command = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.uniform(0, 500, (12, 2)),
        "state": rng.normal(size=(12, 3)),
        "img": rng.integers(0, 256, (12, 16, 16, 3), dtype=np.uint8),
    }
    write_zarr(tmp_path / "in.zarr", ReplayBuffer(arrays, np.array([5, 12])))
    return tmp_path / "in.zarr"


def test_help(command: Command) -> None:
    result = command("convert", "--help")
    assert result.code == 0 and not result.err
    for text in ("IN", "OUT", "--fps", "--obs-keys", "--rename OLD=NEW", "--filter-key"):
        assert text in result.out
    for text in ("--from", "--to", "--max-episodes", "--action-key", "--quiet", "examples:"):
        assert text in result.out
    assert "convert demonstrations" in command("--help").out


def test_round_trip(command: Command, store: Path, tmp_path: Path) -> None:
    result = command("convert", store, tmp_path / "a", "--fps", "10", "--quiet")
    assert result.code == 0 and not result.err
    assert f"{store} (zarr): 2 episodes, 12 steps at 10 per second" in result.out
    assert "img encoded as video: mean difference " in result.out
    assert "of 255 grey levels, PSNR " in result.out
    assert result.out.endswith(f"written: {tmp_path / 'a'} (lerobot)\n")
    for source, target in (("a", "b.hdf5"), ("b.hdf5", "c.zarr")):
        result = command("convert", tmp_path / source, tmp_path / target, "--quiet")
        assert result.code == 0 and not result.err and "encoded" not in result.out
    found = load_zarr(tmp_path / "c.zarr", list_zarr(tmp_path / "c.zarr").readable)
    expected = load_zarr(store, ["action", "state"])
    assert found.episode_ends.tolist() == [5, 12]
    for key, values in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[key], values)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"in.zarr", "a", "b.hdf5", "c.zarr"}


def test_json(command: Command, store: Path, tmp_path: Path) -> None:
    result = command("convert", store, tmp_path / "a", "--fps", "12.5", "--json")
    assert result.code == 0 and not result.err
    report = json.loads(result.out)
    assert report["target_format"] == "lerobot" and report["fps"] == 12.5
    assert set(report["image_loss"]["img"]) == {"mean", "largest", "psnr"}


def test_progress_unless_quiet(command: Command, store: Path, tmp_path: Path) -> None:
    result = command("convert", store, tmp_path / "a", "--fps", "10")
    assert "images of" in result.err and "video of observation.images.img" in result.err
    result = command("convert", store, tmp_path / "a.hdf5")
    assert "demo" in result.err


def test_options(command: Command, store: Path, tmp_path: Path) -> None:
    result = command(
        *("convert", store, tmp_path / "out", "--to", "robomimic", "--from", "zarr", "--quiet"),
        *("--obs-keys", "state", "img", "--rename", "img=image", "state=pos"),
        *("--max-episodes", "1", "--action-key", "action"),
    )
    assert result.code == 0, result.err
    with h5py.File(tmp_path / "out") as file:
        assert list(file["data"]) == ["demo_0"]
        assert sorted(file["data/demo_0/obs"]) == ["image", "pos"]
        file_name = Path(file.filename)
    with h5py.File(file_name, "a") as file:
        file["mask/good"] = np.array(["demo_0"], "S")
        file["data/demo_0/obs/depth"] = np.zeros((5, 4, 4, 1), np.float32)
    target = tmp_path / "b.zarr"
    result = command("convert", file_name, target, "--filter-key", "good", "--quiet")
    assert result.code == 0
    assert result.err.startswith("warning: ") and "left out" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out"], "error: {store} does not say how many steps per second it holds"),
        (["in.zarr"], "error: {store} exists already"),
        (["out.hdf5", "--obs-keys", "sate"], "there is no array data/sate: did you mean 'state'"),
        (["out.hdf5", "--filter-key", "a"], "--filter-key does not fit"),
        (["out.hdf5", "--rename", "img=a", "img=b"], "--rename gives one observation two names"),
        (["out.hdf5", "--rename", "img"], "'img' is not OLD=NEW"),
        (["out.hdf5", "--to", "hdf5"], "unknown dataset format 'hdf5': known: zarr"),
        (["out.hdf5", "--max-episodes", "0"], "0 is not positive"),
    ],
)
def test_bad_input(command: Command, store: Path, arguments: list[str], message: str) -> None:
    result = command("convert", store, store.parent / arguments[0], *arguments[1:])
    assert result.code == 2 and not result.out
    assert message.format(store=store) in result.err
    assert [path.name for path in store.parent.iterdir()] == ["in.zarr"]


def test_missing_and_damaged_input(command: Command, tmp_path: Path) -> None:
    result = command("convert", tmp_path / "absent", tmp_path / "out.zarr")
    assert result.code == 2 and "no such file or folder" in result.err
    (tmp_path / "cut.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    result = command("convert", tmp_path / "cut.hdf5", tmp_path / "out.zarr")
    assert result.code == 2 and "cut.hdf5: cannot be opened as HDF5" in result.err
    assert result.err.startswith("error: ") and result.err.count("\n") == 1
