"""Data whose action has another name, in every format: found or said, looked at and trained on."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from lfm_policy.cli.main import main
from lfm_policy.config import load_config
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.inspection import inspect_dataset
from lfm_policy.policy import read_header
from lfm_policy.training import train

LENGTHS = (30, 24, 28)
SMALL = [
    *("network.width=16", "network.n_layers=1", "training.batch_size=8", "training.total_steps=6"),
]


def buffer(**more: np.ndarray) -> ReplayBuffer:
    n_steps, generator = sum(LENGTHS), np.random.default_rng(0)

    def wander(size: int) -> np.ndarray:
        return np.cumsum(generator.normal(size=(n_steps, size)), axis=0).astype(np.float32)

    arrays = {"action": wander(3), "joints": wander(4), **more}
    return ReplayBuffer(arrays, np.cumsum(LENGTHS))


def rename_in_hdf5(path: Path, old: str, new: str) -> Path:
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo.move(old, new)
    return path


def rename_in_lerobot(root: Path, names: dict[str, str]) -> Path:
    file = root / "meta" / "info.json"
    info = json.loads(file.read_text())
    info["features"] = {names.get(k, k): entry for k, entry in info["features"].items()}
    file.write_text(json.dumps(info))
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([names.get(k, k) for k in table.column_names]), path)
    return root


def written(format_name: str, folder: Path) -> tuple[Path, str]:
    """Write a dataset of a format without an action of its usual name; returns that name too."""
    if format_name == "zarr":
        arrays = dict(buffer().arrays)
        arrays["target"] = arrays.pop("action")
        write_zarr(folder / "arm.zarr", ReplayBuffer(arrays, np.cumsum(LENGTHS)))
        return folder / "arm.zarr", "target"
    if format_name == "robomimic":
        write_robomimic(folder / "arm.hdf5", buffer())
        return rename_in_hdf5(folder / "arm.hdf5", "actions", "action"), "action"
    # As sets for openpi are: no name begins with observation.
    write_lerobot(folder / "arm", buffer(), fps=10)
    names = {"action": "actions", "observation.joints": "joints"}
    return rename_in_lerobot(folder / "arm", names), "actions"


def learns(text: str, tmp_path: Path, *overrides: str) -> dict[str, tuple[int, ...]]:
    """Train what is proposed, small, and return the shapes of what the policy sees."""
    file = tmp_path / "proposed.yaml"
    file.write_text(text)
    config = load_config(str(file), [*SMALL, *overrides])
    checkpoint = train(config, tmp_path / "run", device="cpu", quiet=True)
    return dict(read_header(checkpoint).spec.obs_shapes)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["zarr", "robomimic", "lerobot"])
def test_an_action_that_is_named(
    format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, action = written(format_name, tmp_path)
    assert main(["init", str(path), "--action-key", action, "-o", "-", "--fps", "10"]) == 0
    text = capsys.readouterr().out
    assert f"action_key: {action}  # what the policy imitates" in text
    assert learns(text, tmp_path) == {"joints": (4,)}


@pytest.mark.parametrize("format_name", ["robomimic", "lerobot"])
def test_the_only_array_that_is_called_so_is_the_action(
    format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, action = written(format_name, tmp_path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert f"training needs dataset.action_key={action}" in " ".join(out.split())
    assert main(["init", str(path), "-o", "-", "--fps", "10"]) == 0
    assert f"action_key: {action}" in capsys.readouterr().out


def test_one_of_several_actions(tmp_path: Path) -> None:
    path = tmp_path / "arm.hdf5"
    write_robomimic(path, buffer(wide=np.zeros((sum(LENGTHS), 5), np.float32)))
    rename_in_hdf5(path, "obs/wide", "actions_abs")
    assert inspect_dataset(path).opened.stored["action"].shape == (sum(LENGTHS), 3)
    chosen = inspect_dataset(path, action_key="actions_abs")
    assert chosen.opened.stored["action"].shape == (sum(LENGTHS), 5)
    assert list(chosen.opened.stored) == ["action", "joints"]


def test_features_of_lerobot_without_a_prefix_are_observed_by_default(tmp_path: Path) -> None:
    path, action = written("lerobot", tmp_path)
    config = DATASET_FORMATS.get("lerobot")(path=str(path), action_key=action)
    assert list(config.load().arrays) == ["action", "joints"]


@pytest.mark.parametrize("format_name", ["zarr", "robomimic", "lerobot"])
@pytest.mark.parametrize("command", ["init", "inspect"])
def test_an_action_that_is_not_there(
    format_name: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, action = written(format_name, tmp_path)
    assert main([command, str(path), "--action-key", f"{action}z"]) == 2
    error = capsys.readouterr().err
    assert f"{action}z" in error and f"did you mean '{action}'?" in error


NAN = np.full((sum(LENGTHS), 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("arrays", "action", "message"),
    [
        ({"top": np.zeros((82, 20, 30, 3), np.uint8)}, "top", "its steps are images\n"),
        ({"nan": NAN}, "nan", "repair or drop these episodes\n"),
        ({"scan": np.zeros((82, 600), np.float32)}, "scan", "more than 512 values per step"),
    ],
)
def test_what_cannot_be_imitated(
    arrays: dict[str, np.ndarray],
    action: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrays["top"] = arrays.get("top", np.ones((82, 20, 30, 3), np.uint8))
    write_zarr(tmp_path / "arm.zarr", buffer())
    root = zarr.open_group(str(tmp_path / "arm.zarr"), mode="a")
    for key, values in arrays.items():
        root.create_array(f"data/{key}", data=values)
    assert main(["init", str(tmp_path / "arm.zarr"), "--action-key", action, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert f"'{action}' cannot be imitated: " in error and message in error
    assert "did you mean" not in error


def test_lerobot_s_names_are_those_that_the_robot_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joints = buffer().arrays["joints"].copy()
    joints[17, 2] = 1e4
    write_lerobot(tmp_path / "arm", buffer(joints=joints), fps=10)
    assert main(["init", str(tmp_path / "arm"), "-o", "-"]) == 0
    out, err = capsys.readouterr()
    assert "the robot must have it, under the names after #" in out
    assert "- observation.joints  # joints: 4 numbers, " in out
    assert "or set 'normalization.keys={joints: quantiles}'" in err
    override = "normalization.keys={joints: quantiles}"
    assert learns(out, tmp_path, override) == {"joints": (4,)}
