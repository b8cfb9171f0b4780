"""What is said about demonstrations."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import unknown_env_args, write_robomimic
from lfm_policy.data.tools import contents
from lfm_policy.data.zarr.store import load_zarr, write_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import dataset, findings, inspect_dataset

KEYS = ("action", "agent_pos", "pose")
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "min": lambda values: values.min(axis=0),
    "q01": lambda values: np.quantile(values, 0.01, axis=0),
    "q99": lambda values: np.quantile(values, 0.99, axis=0),
    "max": lambda values: values.max(axis=0),
    "mean": lambda values: values.mean(axis=0),
    "std": lambda values: values.std(axis=0),
}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder for temporary files of these tests alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


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
    assert found["kind"] == "dataset" and found["format"] == "zarr" and found["fps"] is None
    assert found["episodes"] == 6
    assert found["steps"] == buffer.n_steps == 70
    assert found["episode_length"] == {"min": 9, "median": 11.5, "max": 15}
    assert [warning["kind"] for warning in found["warnings"]] == ["short_episodes"]
    assert found["warnings"][0]["lengths"] == [12, 9, 15, 10, 11, 13]
    assert found["notes"] == []
    assert set(found["arrays"]) == set(KEYS)
    for key in KEYS:
        values = buffer.arrays[key].astype(np.float64)
        described = found["arrays"][key]
        assert described["shape"] == list(values.shape)
        assert described["dtype"] == "float32"
        for name, statistic in STATISTICS.items():
            np.testing.assert_allclose(described[name], statistic(values))


def test_print(
    small_zarr: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    inspect_dataset(small_zarr).print()
    text = capsys.readouterr().out
    assert f"{small_zarr}: 6 episodes, 70 steps; lengths 9 to 15, median 11.5" in text
    assert "format zarr" in text
    for key in KEYS:
        assert f"data/{key}" in text and f"{key}[0]" in text
    assert "(70, 4)" in text and "float32" in text and "pose[3]" in text
    assert "warning: 6 of 6 episodes are shorter than 16 steps" in text


def test_no_warnings(
    good: ReplayBuffer, tmp_path: Path, capsys: pytest.CaptureFixture[str], temporary: Path
) -> None:
    write_zarr(tmp_path / "good.zarr", good)
    inspection = inspect_dataset(tmp_path / "good.zarr")
    found = inspection.to_dict()
    assert found["warnings"] == [] and found["notes"] == []
    image = found["arrays"]["image"]
    assert image["shape"] == [392, 24, 32, 3] and image["frames_read"] == 392
    grey = good.arrays["image"] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(image["grey_mean"], grey.mean(), 1e-5)
    np.testing.assert_allclose(image["grey_std"], grey.std(), 1e-5)
    inspection.print()
    text = " ".join(capsys.readouterr().out.split())
    assert "no warnings" in text and "392 images read" in text and "warning:" not in text
    assert list(temporary.iterdir()) == []  # the decoded images are gone


@pytest.mark.parametrize("format", ["zarr", "robomimic", "lerobot"])
def test_tasks(
    good: ReplayBuffer, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del good.arrays["image"]
    path = tmp_path / {"zarr": "a.zarr", "robomimic": "a.hdf5", "lerobot": "a"}[format]
    shown = ["pick up the red cube", "put it in the tray"] * 4
    if format == "zarr":
        good.arrays["pose"] = good.arrays.pop("action")  # without actions, too
        write_zarr(path, good, tasks=shown)
    elif format == "robomimic":
        write_robomimic(path, good, tasks=shown)
    else:
        write_lerobot(path, good, fps=10, tasks=shown)
    inspection = inspect_dataset(path)
    assert inspection.to_dict()["tasks"] == {"pick up the red cube": 4, "put it in the tray": 4}
    inspection.print()
    expected = "2 tasks: pick up the red cube (4), put it in the tray (4)"
    assert expected in capsys.readouterr().out.splitlines()


def test_tasks_that_cannot_be_read_are_a_warning(good: ReplayBuffer, tmp_path: Path) -> None:
    del good.arrays["image"]
    write_zarr(tmp_path / "a.zarr", good, tasks=["a", "b"] * 4)
    numbers = zarr.open_group(tmp_path / "a.zarr/data", mode="r+")
    numbers.create_array("task_index", data=np.ones((good.n_steps, 2)), overwrite=True)
    found = inspect_dataset(tmp_path / "a.zarr").to_dict()
    assert found["tasks"] == {}
    (warning,) = found["warnings"]
    assert warning["kind"] == "unusable_tasks" and "integers (steps,)" in warning["message"]


@pytest.mark.parametrize("format", ["zarr", "robomimic", "lerobot"])
def test_a_defect_in_every_format(good: ReplayBuffer, tmp_path: Path, format: str) -> None:
    good.arrays["image"][110:130] = good.arrays["image"][110]
    good.arrays["position"][200, 1] = 90
    path = tmp_path / ("data.hdf5" if format == "robomimic" else "data")
    if format == "zarr":
        write_zarr(path, good)
    elif format == "robomimic":
        write_robomimic(path, good, env_args=unknown_env_args(10))
    else:
        write_lerobot(path, good, fps=10)
    inspection = inspect_dataset(path)
    found = inspection.to_dict()
    json.dumps(found, allow_nan=False)
    assert found["format"] == format and found["fps"] == (None if format == "zarr" else 10)
    assert [warning["kind"] for warning in found["warnings"]] == ["outlier", "frozen_camera"]
    outlier, frozen = found["warnings"]
    assert (outlier["key"].split(".")[-1], outlier["dimension"]) == ("position", 1)
    assert (outlier["episode"], outlier["step"], outlier["worst"]) == (4, 3, 90)
    assert frozen["key"].split(".")[-1] == "image"
    blurred = 2 if format == "lerobot" else 0  # by the codec, at both ends
    assert frozen["episode"] == 2
    assert 18 <= frozen["from"] <= 18 + blurred and 37 - blurred <= frozen["to"] <= 37


def test_many_warnings_of_one_kind(
    good: ReplayBuffer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good.arrays["wide"] = np.random.default_rng(0).uniform(size=(good.n_steps, 13))
    good.arrays["wide"][7] = 1000
    write_zarr(tmp_path / "data.zarr", good)
    inspection = inspect_dataset(tmp_path / "data.zarr")
    assert len(inspection.to_dict()["warnings"]) == 13
    inspection.print()
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning:" in line]
    assert len(lines) == 11 and "wide[9] has 1 value far outside" in lines[9]
    assert lines[10] == "warning: 3 more warnings of kind outlier: see --json"


def test_plot(good: ReplayBuffer, tmp_path: Path) -> None:
    write_zarr(tmp_path / "data.zarr", good)
    path = tmp_path / "new" / "plot.png"
    inspect_dataset(tmp_path / "data.zarr").plot(path)
    width, height = png_size(path)
    assert width == 1800 and height > 1000
    assert list(path.parent.iterdir()) == [path]


def test_the_seed_chooses_the_episodes_that_are_drawn(good: ReplayBuffer, tmp_path: Path) -> None:
    write_zarr(tmp_path / "many.zarr", good)
    inspections = [inspect_dataset(tmp_path / "many.zarr", seed=seed) for seed in (0, 0, 1)]
    drawn = [inspection.episodes_drawn for inspection in inspections]
    assert drawn[0] == drawn[1] != drawn[2]
    for inspection in inspections:
        assert list(inspection.cameras["image"].shown) == inspection.episodes_drawn
        assert len(set(inspection.episodes_drawn)) == 6


def test_large_arrays_are_not_read(
    small_zarr: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(contents, "LARGEST_READ_BYTES", 600)  # action and agent_pos have 560
    inspection = inspect_dataset(small_zarr)
    assert set(inspection.buffer.arrays) == {"action", "agent_pos"}
    assert inspection.to_dict()["arrays"]["pose"] == {"shape": [70, 4], "dtype": "float32"}
    inspection.print()
    assert "large: not read" in capsys.readouterr().out
    assert inspection.to_dict()["not_looked_at"] == {"pose": "large"}


def test_without_warnings_it_is_said_what_was_not_looked_at(
    good: ReplayBuffer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "data.zarr"
    write_zarr(path, good)
    whole = inspect_dataset(path)
    assert whole.to_dict()["not_looked_at"] == {}
    whole.print()
    assert capsys.readouterr().out.splitlines()[-1] == "no warnings"

    data = zarr.open_group(path / "data", mode="r+")
    data.create_array("points", data=np.ones((good.n_steps, 300, 3), np.float32))
    monkeypatch.setattr(contents, "LARGEST_CAMERA_BYTES", 100 * 24 * 32 * 3)
    inspection = inspect_dataset(path)
    unread = {"image": "92 of 392 images read", "points": "more than 512 values per step"}
    assert inspection.to_dict()["not_looked_at"] == unread
    inspection.print()
    assert capsys.readouterr().out.splitlines()[-1] == (
        "no warnings in 3 of 5 arrays; not looked at: image (92 of 392 images read), points (more "
        "than 512 values per step)"
    )
    data.create_array("reward", data=np.zeros((good.n_steps, 0)))
    inspection = inspect_dataset(path)
    assert inspection.to_dict()["not_looked_at"] == unread | {"reward": "not usable"}
    inspection.print()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("not looked at: image (92 of 392 images read), points (more than")
    assert not any("no warnings" in line for line in lines)


@pytest.mark.parametrize(("room", "n_episodes"), [(100, 2), (10, 0)])
def test_of_large_cameras_the_first_episodes_are_read(
    good: ReplayBuffer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    room: int,
    n_episodes: int,
) -> None:
    write_zarr(tmp_path / "good.zarr", good)
    monkeypatch.setattr(contents, "LARGEST_CAMERA_BYTES", room * 24 * 32 * 3)
    inspection = inspect_dataset(tmp_path / "good.zarr")
    (note,) = inspection.to_dict()["notes"]
    assert f"those of the first {n_episodes} of 8 episodes were looked at" in note
    described = inspection.to_dict()["arrays"]["image"]
    assert described.get("frames_read", 0) == sum((40, 52)[:n_episodes])
    inspection.print()
    text = " ".join(capsys.readouterr().out.split())
    assert f"note: {note}" in text
    assert ("images: not read" in text) == (n_episodes == 0)


def test_a_full_disk(good: ReplayBuffer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zarr(tmp_path / "good.zarr", good)

    class Usage:
        free = 2 * 50 * 24 * 32 * 3

    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda path: Usage)
    assert inspect_dataset(tmp_path / "good.zarr").cameras["image"].n_episodes == 1


def test_arrays_and_images_that_training_cannot_use(
    good: ReplayBuffer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.zarr"
    write_zarr(path, good)
    data = zarr.open_group(path / "data", mode="r+")
    data.create_array("reward", data=np.zeros((good.n_steps, 0)))
    data.create_array("share", data=np.full((good.n_steps, 8, 8, 3), 0.5, np.float32))
    inspection = inspect_dataset(path)
    found = {warning["kind"]: warning for warning in inspection.to_dict()["warnings"]}
    assert set(found) == {"unusable_array", "unusable_images"}
    assert found["unusable_array"]["key"] == "reward"
    assert "it holds no values; leave it out" in found["unusable_array"]["message"]
    assert found["unusable_images"]["key"] == "share"
    assert "multiply them by 255" in found["unusable_images"]["message"]
    inspection.print()
    assert "not usable" in capsys.readouterr().out


def test_without_actions(good: ReplayBuffer, tmp_path: Path) -> None:
    arrays = {key: array for key, array in good.arrays.items() if key != "action"}
    write_zarr(tmp_path / "data.zarr", ReplayBuffer(arrays, good.episode_ends, "umi"))
    (finding,) = [w for w in inspect_dataset(tmp_path / "data.zarr").warnings]
    assert finding.kind == "no_action"
    assert "no data/action" in finding.message and "dataset.action_key" in finding.message


def test_more_episodes_than_are_compared(small_zarr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "COMPARED_EPISODES", 5)
    (note,) = inspect_dataset(small_zarr).to_dict()["notes"]
    assert note.startswith("only the first 5 of 6 episodes were compared")


def test_zip(small_zarr: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.zarr.zip"
    write_zarr(path, load_zarr(small_zarr, KEYS))
    expected = inspect_dataset(small_zarr).to_dict() | {"path": str(path)}
    assert inspect_dataset(path).to_dict() == expected


def test_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a zarr store.*meta/info\.json"):
        inspect_dataset(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        inspect_dataset(tmp_path / "file")


def test_human_demonstrations(pusht_zarr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LARGEST_CAMERA_BYTES", 2000 * 96 * 96 * 3)
    inspection = inspect_dataset(pusht_zarr)
    found = inspection.to_dict()
    assert (found["episodes"], found["steps"]) == (206, 25_650)
    assert found["arrays"]["state"]["shape"] == [25_650, 5]
    assert found["arrays"]["img"]["shape"] == [25_650, 96, 96, 3]
    assert found["warnings"] == [] and len(found["notes"]) == 1
    assert inspection.cameras["img"].n_episodes == 14
