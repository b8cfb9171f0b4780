"""What a dataset of each format holds, before its values are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import unknown_env_args, write_robomimic
from lfm_policy.data.tools import contents as module
from lfm_policy.data.tools.contents import StoredArray, describe
from lfm_policy.data.tools.detect import open_dataset
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

pytestmark = pytest.mark.slow


@pytest.fixture
def zarr_path(good: ReplayBuffer, tmp_path: Path) -> Path:
    write_zarr(tmp_path / "good.zarr", good)
    return tmp_path / "good.zarr"


@pytest.fixture
def robomimic_path(good: ReplayBuffer, tmp_path: Path) -> Path:
    write_robomimic(tmp_path / "good.hdf5", good, env_args=unknown_env_args(20))
    return tmp_path / "good.hdf5"


@pytest.fixture
def lerobot_path(good: ReplayBuffer, tmp_path: Path) -> Path:
    write_lerobot(tmp_path / "good", good, fps=10)
    return tmp_path / "good"


@pytest.mark.parametrize(
    ("fixture", "prefix", "fps"),
    [("zarr_path", "", None), ("robomimic_path", "", 20), ("lerobot_path", "observation.", 10)],
)
def test_formats(
    request: pytest.FixtureRequest,
    good: ReplayBuffer,
    tmp_path: Path,
    fixture: str,
    prefix: str,
    fps: float | None,
) -> None:
    opened = open_dataset(request.getfixturevalue(fixture))
    assert opened.format == fixture.removesuffix("_path") and opened.fps == fps
    names = {key: key if key == "action" else prefix + key for key in good.arrays}
    assert set(opened.stored) == set(names.values())
    assert opened.cameras == (names["image"],)
    for key, name in names.items():
        assert opened.stored[name].shape == good.arrays[key].shape
        assert not opened.stored[name].not_read
    buffer = opened.read_values()
    assert set(buffer.arrays) == set(names.values()) - {names["image"]}
    np.testing.assert_array_equal(buffer.episode_ends, good.episode_ends)
    for key in ("action", "position", "gripper"):
        np.testing.assert_array_equal(buffer.arrays[names[key]], good.arrays[key])
    frames = opened.open_camera(names["image"], buffer, 3, tmp_path / "cache", quiet=True)
    assert isinstance(frames, np.memmap) and frames.dtype == np.uint8
    assert frames.shape == (137, 24, 32, 3)
    difference = np.abs(frames.astype(int) - good.arrays["image"][:137]).mean()
    assert difference == 0 if fixture != "lerobot_path" else difference < 10


def test_the_numbers_of_named_tasks_are_no_observation(good: ReplayBuffer, tmp_path: Path) -> None:
    write_zarr(tmp_path / "told.zarr", good, tasks=["push", "fold"] * 4)
    inspection = inspect_dataset(tmp_path / "told.zarr")
    assert set(inspection.opened.stored) == set(good.arrays)
    assert inspection.to_dict()["warnings"] == []


def change_features(path: Path, changes: dict[str, Any]) -> None:
    info = json.loads((path / "meta/info.json").read_text())
    info["features"] |= changes
    (path / "meta/info.json").write_text(json.dumps(info))


def change_column(path: Path, name: str, values: Any) -> None:
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    if name in table.column_names:
        table = table.drop_columns([name])
    pq.write_table(table.append_column(name, values), file)


def test_unusable_features_block_nothing(
    good: ReplayBuffer, lerobot_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    n, rng = good.n_steps, np.random.default_rng(0)
    numbers = {"dtype": "float32", "shape": [2], "names": None}
    change_features(
        lerobot_path,
        {
            "observation.text": {"dtype": "string", "shape": [1]},
            "observation.odd": 3,
            "observation.depth": {
                "dtype": "video",
                "shape": [24, 32, 1],
                "info": {"video.is_depth_map": True},
            },
            "observation.absent": numbers,
            "observation.nested": numbers,
            "observation.ragged": numbers,
            "observation.gap": numbers,
            "something.else": {"dtype": "no dtype"},
        },
    )
    change_column(lerobot_path, "observation.text", pa.array(["pick"] * n))
    nested = pa.array([[[1.0], [2.0]]] * n, pa.list_(pa.list_(pa.float32())))
    change_column(lerobot_path, "observation.nested", nested)
    ragged = [rng.normal(size=rng.integers(1, 5)).tolist() for _ in range(n)]
    change_column(lerobot_path, "observation.ragged", pa.array(ragged, pa.list_(pa.float32())))
    gap = [[0.0, 1.0]] * (n - 1) + [[0.0, float("nan")]]
    change_column(lerobot_path, "observation.gap", pa.array(gap, pa.list_(pa.float32())))

    inspection = inspect_dataset(lerobot_path)
    found = inspection.to_dict()
    unusable = {w["key"]: w["message"] for w in found["warnings"] if w["kind"] == "unusable_array"}
    expected = {
        "text": "dtype 'string'; expected a numeric one",
        "odd": "is 3; expected an object with dtype and shape",
        "depth": "is a depth map",
        "absent": "there is no column 'observation.absent'",
        "nested": "holds lists of depth 2; expected shape [2] per row",
        "ragged": "expected 2: shape [2] per row",
        "gap": f"in 1 of 8 episodes: episode 7 holds nan in step {good.episode_lengths[-1] - 1};",
    }
    assert set(unusable) == {f"observation.{name}" for name in expected}
    for name, text in expected.items():
        assert text in unusable[f"observation.{name}"], name
    assert set(inspection.buffer.arrays) == {
        "action",
        "observation.position",
        "observation.gripper",
    }
    assert found["arrays"]["observation.image"]["frames_read"] == n
    assert found["arrays"]["observation.text"]["dtype"] == "string"
    inspection.print()
    assert capsys.readouterr().out.count("not usable: see below") == len(expected)


def test_only_unusable_features(good: ReplayBuffer, lerobot_path: Path) -> None:
    info = json.loads((lerobot_path / "meta/info.json").read_text())
    text = {"dtype": "string", "shape": [1]}
    info["features"] = {"action": info["features"]["action"], "observation.text": text}
    (lerobot_path / "meta/info.json").write_text(json.dumps(info))
    opened = open_dataset(lerobot_path)
    buffer = opened.read_values()
    assert list(buffer.arrays) == ["action"]
    np.testing.assert_array_equal(buffer.arrays["action"], good.arrays["action"])
    np.testing.assert_array_equal(buffer.episode_ends, good.episode_ends)
    assert opened.stored["observation.text"].unusable


@pytest.mark.parametrize("damage", ["codec", "cut off"])
def test_a_camera_that_cannot_be_decoded(lerobot_path: Path, damage: str) -> None:
    (video,) = (lerobot_path / "videos").rglob("*.mp4")
    content = video.read_bytes()
    cut = content[: len(content) // 50]
    video.write_bytes(content.replace(b"avc1", b"zzzz") if damage == "codec" else cut)
    found = inspect_dataset(lerobot_path).to_dict()
    (warning,) = (w for w in found["warnings"] if w.get("key") == "observation.image")
    assert warning["kind"] == ("unusable_array" if damage == "codec" else "unusable_images")
    expected = "FFmpeg has no decoder here" if damage == "codec" else "the video cannot be decoded"
    assert expected in warning["message"]


def test_damage_of_everything_is_an_error(lerobot_path: Path) -> None:
    file = lerobot_path / "data/chunk-000/file-000.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"file-000.parquet: the parquet file cannot be read"):
        inspect_dataset(lerobot_path)


def test_a_damaged_action_is_an_error(good: ReplayBuffer, lerobot_path: Path) -> None:
    values = good.arrays["action"].tolist()
    values[3][0] = float("nan")
    change_column(lerobot_path, "action", pa.array(values, pa.list_(pa.float32(), 2)))
    with pytest.raises(InputError, match="action holds nan in episode 0, step 3"):
        inspect_dataset(lerobot_path)


def test_images_and_actions_alone(
    good: ReplayBuffer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {key: good.arrays[key] for key in ("action", "image")}
    path = tmp_path / "images.hdf5"
    write_robomimic(path, ReplayBuffer(arrays, good.episode_ends))
    buffer = open_dataset(path).read_values()
    assert list(buffer.arrays) == ["action"]
    np.testing.assert_array_equal(buffer.arrays["action"], good.arrays["action"])
    monkeypatch.setattr(module, "LARGEST_CAMERA_BYTES", 1000)
    with pytest.raises(InputError, match="too large to be looked at"):
        open_dataset(path).read_values()


def test_remarks_of_the_reader_are_kept(good: ReplayBuffer, tmp_path: Path) -> None:
    good.arrays["action"] *= 100
    write_robomimic(tmp_path / "large.hdf5", good, env_args=unknown_env_args() | {"type": 1})
    opened = open_dataset(tmp_path / "large.hdf5")
    buffer = opened.read_values()
    assert len(opened.remarks) == 1 and "controllers take -1 to 1" in opened.remarks[0]
    opened.open_camera("image", buffer, 1, tmp_path / "cache", quiet=True)  # no second time


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((10, 7), "f4", StoredArray((10, 7), "float32", False)),
        ((10, 9, 2), "f8", StoredArray((10, 9, 2), "float64", False)),
        ((10, 24, 32, 3), "f4", StoredArray((10, 24, 32, 3), "float32", True)),
        (
            (10, 24, 32),
            "f4",
            StoredArray((10, 24, 32), "float32", False, "more than 512 values per step: not read"),
        ),
        ((10**9, 2), "f4", StoredArray((10**9, 2), "float32", False, "large: not read")),
    ],
)
def test_describe(shape: tuple[int, ...], dtype: str, expected: StoredArray) -> None:
    assert describe("data/x", shape, np.dtype(dtype), source="data.zarr") == expected


@pytest.mark.parametrize(("shape", "dtype"), [((10,), "f4"), ((10, 2), "U5"), ((10, 0), "f4")])
def test_arrays_that_cannot_be_used(shape: tuple[int, ...], dtype: str) -> None:
    described = describe("data/x", shape, np.dtype(dtype), source="data.zarr")
    assert described.unusable and "data.zarr: data/x has" in described.not_read


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        open_dataset(tmp_path / "missing")
    (tmp_path / "bad.hdf5").write_text("x")
    with pytest.raises(InputError, match="cannot be opened as HDF5"):
        open_dataset(tmp_path / "bad.hdf5")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        open_dataset(tmp_path)
