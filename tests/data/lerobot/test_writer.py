"""Writing LeRobot datasets v3.0: the files, read with pyarrow and PyAV, and the loss of videos."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from lfm_policy.data.images import video_writer
from lfm_policy.data.lerobot import writer as lerobot_writer
from lfm_policy.data.lerobot.writer import (
    array_stats,
    feature_name,
    image_histogram,
    image_stats,
    measure_video_loss,
    write_lerobot,
)
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.errors import InputError

ENDS = np.array([7, 8, 20])


def grey(n: int, height: int = 16, width: int = 32) -> np.ndarray:
    """Frames of one grey level each, 10 apart: a decoder that is off by one is found out."""
    levels = (10 + 10 * np.arange(n)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (n, height, width, 3)).copy()


@pytest.fixture(scope="module")
def buffer() -> ReplayBuffer:
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.normal(size=(20, 2)),
        "state": rng.normal(size=(20, 5)).astype(np.float32),
        "environment_state": rng.normal(size=(20, 3)).astype(np.float16),
        "keypoint": rng.normal(size=(20, 4, 2)).astype(np.float32),
        "volume": rng.normal(size=(20, 2, 3, 5)),
        "contacts": rng.integers(-5, 9, (20, 1)),
        "flag": rng.random((20, 2)) < 0.5,
        "swapped": rng.normal(size=(20, 2)).astype(">f8"),
        "image": grey(20),
        "wrist": 255 - grey(20, 17, 15),
    }
    return ReplayBuffer(arrays, ENDS, "made up")


@pytest.fixture(scope="module")
def dataset(buffer: ReplayBuffer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lerobot") / "new" / "dataset"
    write_lerobot(path, buffer, fps=5, task="push the T")
    assert [entry.name for entry in path.parent.iterdir()] == ["dataset"]
    return path


def columns(path: Path) -> dict[str, list[Any]]:
    return pq.read_table(path).to_pydict()


def decode(path: Path) -> tuple[list[float], np.ndarray]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return (
        [float(frame.time) for frame in frames],
        np.stack([frame.to_ndarray(format="rgb24") for frame in frames]),
    )


NUMBERS = {
    "action": ("action", "float64", [2]),
    "state": ("observation.state", "float32", [5]),
    "environment_state": ("observation.environment_state", "float16", [3]),
    "keypoint": ("observation.keypoint", "float32", [4, 2]),
    "volume": ("observation.volume", "float64", [2, 3, 5]),
    "contacts": ("observation.contacts", "int64", [1]),
    "flag": ("observation.flag", "bool", [2]),
    "swapped": ("observation.swapped", "float64", [2]),
}
CAMERAS = {"image": "observation.image", "wrist": "observation.images.wrist"}


def test_info(dataset: Path) -> None:
    info = json.loads((dataset / "meta/info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": 3,
        "total_frames": 20,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 5,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    for name, dtype, shape in NUMBERS.values():
        assert features.pop(name) == {"dtype": dtype, "shape": shape, "names": None}
    assert features["observation.image"] == {
        "dtype": "video",
        "shape": [16, 32, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": 16,
            "video.width": 32,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": 5,
            "video.channels": 3,
            "has_audio": False,
        },
    }
    # H.264 halves no odd size.
    assert features["observation.images.wrist"]["info"]["video.pix_fmt"] == "yuv444p"
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        assert features[name]["shape"] == [1]
    assert len(features) == 7


def test_numbers_are_exact(dataset: Path, buffer: ReplayBuffer) -> None:
    path = dataset / "data/chunk-000/file-000.parquet"
    table = columns(path)
    for key, (name, dtype, _) in NUMBERS.items():
        values = np.array(table.pop(name))
        expected = buffer.arrays[key]
        np.testing.assert_array_equal(values.reshape(expected.shape), expected)
        leaf = str(pq.read_schema(path).field(name).type)
        assert {"float16": "halffloat", "float64": "double", "float32": "float"}.get(
            dtype, dtype
        ) in leaf
    lengths = [7, 1, 12]
    frame_index = np.concatenate([np.arange(n) for n in lengths])
    assert table.pop("frame_index") == frame_index.tolist()
    np.testing.assert_array_equal(table.pop("timestamp"), (frame_index / 5).astype(np.float32))
    assert table.pop("episode_index") == [0] * 7 + [1] + [2] * 12
    assert table.pop("index") == list(range(20))
    assert table.pop("task_index") == [0] * 20
    assert not table  # no other columns: LeRobot compares them with info.json


def test_types_of_columns_are_those_that_lerobot_casts_to(dataset: Path) -> None:
    path = dataset / "data/chunk-000/file-000.parquet"
    schema = pq.read_schema(path)
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types["action"] == "fixed_size_list<element: double>[2]"
    assert types["observation.contacts"] == "int64"
    assert types["observation.keypoint"] == "list<element: list<element: float>>"
    assert types["timestamp"] == "float"
    assert pq.read_metadata(path).num_row_groups == 3


def test_episodes(dataset: Path) -> None:
    table = columns(dataset / "meta/episodes/chunk-000/file-000.parquet")
    assert table["episode_index"] == [0, 1, 2]
    assert table["length"] == [7, 1, 12]
    assert table["tasks"] == [["push the T"]] * 3
    assert table["dataset_from_index"] == [0, 7, 8]
    assert table["dataset_to_index"] == [7, 8, 20]
    for prefix in ("data", "meta/episodes", *(f"videos/{name}" for name in CAMERAS.values())):
        for name in ("chunk_index", "file_index"):
            assert table[f"{prefix}/{name}"] == [0, 0, 0]
    for name in CAMERAS.values():
        np.testing.assert_allclose(table[f"videos/{name}/from_timestamp"], [0, 1.4, 1.6])
        np.testing.assert_allclose(table[f"videos/{name}/to_timestamp"], [1.4, 1.6, 4])


def test_the_table_of_tasks_has_them_as_index(dataset: Path) -> None:
    table = pq.read_table(dataset / "meta/tasks.parquet")
    assert table.to_pydict() == {"task_index": [0], "task": ["push the T"]}
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]


def test_every_frame_is_where_its_time_says(dataset: Path, buffer: ReplayBuffer) -> None:
    for key, name in CAMERAS.items():
        times, frames = decode(dataset / f"videos/{name}/chunk-000/file-000.mp4")
        np.testing.assert_allclose(times, np.arange(20) / 5, atol=1e-6)
        assert frames.shape == buffer.arrays[key].shape
        assert np.abs(frames.astype(int) - buffer.arrays[key]).max() <= 4


def test_the_loss_is_that_of_decoding(dataset: Path, buffer: ReplayBuffer) -> None:
    losses = measure_video_loss(dataset, buffer)
    assert list(losses) == list(CAMERAS)
    for key, name in CAMERAS.items():
        _, frames = decode(dataset / f"videos/{name}/chunk-000/file-000.mp4")
        difference = frames.astype(float) - buffer.arrays[key]
        loss = losses[key]
        assert loss.mean == pytest.approx(np.abs(difference).mean())
        assert loss.largest == np.abs(difference).max()
        psnr = 10 * np.log10(255**2 / np.mean(difference**2)) if difference.any() else math.inf
        assert loss.psnr == pytest.approx(psnr)


def test_a_video_that_lacks_frames_is_not_measured(dataset: Path, buffer: ReplayBuffer) -> None:
    path = dataset / "videos/observation.image/chunk-000/file-000.mp4"
    with pytest.raises(RuntimeError, match="hold 20 frames, but 21 were written"):
        video_writer.measure_loss([path], np.zeros((21, 16, 32, 3), np.uint8))


# -- statistics ---------------------------------------------------------------------------------


def test_statistics_of_the_whole_and_of_episodes(dataset: Path, buffer: ReplayBuffer) -> None:
    overall = json.loads((dataset / "meta/stats.json").read_text())
    table = columns(dataset / "meta/episodes/chunk-000/file-000.parquet")
    for begin, end, found in [
        (0, 20, overall["observation.state"]),
        *(
            (begin, end, {k: table[f"stats/observation.state/{k}"][i] for k in overall["action"]})
            for i, (begin, end) in enumerate([(0, 7), (7, 8), (8, 20)])
        ),
    ]:
        values = buffer.arrays["state"][begin:end].astype(float)
        assert found["count"] == [end - begin]
        for name in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(found[name], getattr(values, name)(axis=0), atol=1e-12)
        for name, q in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
            np.testing.assert_allclose(found[name], np.quantile(values, q, axis=0))
    image = overall["observation.image"]
    assert np.shape(image["mean"]) == (3, 1, 1)
    np.testing.assert_allclose(np.ravel(image["mean"]), grey(20).mean() / 255)
    assert overall["index"]["max"] == [19] and overall["observation.contacts"]["count"] == [20]
    assert set(overall) == {*(name for name, _, _ in NUMBERS.values()), *CAMERAS.values()} | {
        *("timestamp", "frame_index", "episode_index", "index", "task_index")
    }


def test_statistics_of_scalars_and_booleans() -> None:
    stats = array_stats(np.array([3, 1, 2]))
    assert stats["min"].tolist() == [1] and stats["min"].dtype == np.int64
    assert stats["mean"].tolist() == [2.0]
    assert array_stats(np.array([[True], [False]]))["max"].tolist() == [1]


def test_statistics_of_images_are_exact() -> None:
    images = np.random.default_rng(0).integers(3, 250, (5, 6, 7, 3), dtype=np.uint8)
    stats = image_stats(image_histogram(images[:2]) + image_histogram(images[2:]), 5)
    pixels = images.reshape(-1, 3) / 255
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(stats[name].ravel(), getattr(pixels, name)(axis=0))
    for name, q in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        expected = np.quantile(pixels, q, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(stats[name].ravel(), expected)
    assert stats["count"].tolist() == [5] and stats["q50"].shape == (3, 1, 1)


# -- variants -----------------------------------------------------------------------------------


def some(**arrays: np.ndarray) -> ReplayBuffer:
    return ReplayBuffer({"action": np.zeros((20, 2)), **arrays}, ENDS, "made up")


def test_long_videos_go_on_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_writer, "_VIDEO_SECONDS", 1.7)
    monkeypatch.setattr(lerobot_writer, "_PART_BYTES", 3 * 16 * 32 * 3)  # several parts each
    write_lerobot(tmp_path / "d", some(image=grey(20)), fps=5)
    folder = tmp_path / "d/videos/observation.image/chunk-000"
    assert [path.name for path in sorted(folder.iterdir())] == ["file-000.mp4", "file-001.mp4"]
    table = columns(tmp_path / "d/meta/episodes/chunk-000/file-000.parquet")
    name = "videos/observation.image"
    assert table[f"{name}/file_index"] == [0, 0, 1]
    np.testing.assert_allclose(table[f"{name}/from_timestamp"], [0, 1.4, 0])
    np.testing.assert_allclose(table[f"{name}/to_timestamp"], [1.4, 1.6, 2.4])
    times, frames = decode(folder / "file-001.mp4")
    np.testing.assert_allclose(times, np.arange(12) / 5, atol=1e-6)
    assert np.abs(frames.astype(int) - grey(20)[8:]).max() <= 4
    assert measure_video_loss(tmp_path / "d", some(image=grey(20)))["image"].largest <= 4


@pytest.mark.parametrize("size", [(16, 32), (17, 15)])
def test_without_an_encoder_of_h264(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(video_writer, "video_codec", lambda: "mpeg4")
    buffer = some(image=grey(20, *size))
    write_lerobot(tmp_path / "d", buffer, fps=30)
    info = json.loads((tmp_path / "d/meta/info.json").read_text())
    assert info["features"]["observation.image"]["info"]["video.codec"] == "mpeg4"
    assert measure_video_loss(tmp_path / "d", buffer)["image"].largest <= 4


def test_the_encoder_is_chosen_by_what_pyav_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str, mode: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(av.codec, "Codec", unknown)
    assert video_writer.video_codec() == "mpeg4"


@pytest.mark.parametrize("fps", [29.97, 1 / 3, 12.5])
def test_rates_that_are_no_integers(tmp_path: Path, fps: float) -> None:
    write_lerobot(tmp_path / "d", some(image=grey(20)), fps=fps)
    assert json.loads((tmp_path / "d/meta/info.json").read_text())["fps"] == fps
    times, _ = decode(tmp_path / "d/videos/observation.image/chunk-000/file-000.mp4")
    np.testing.assert_allclose(times, np.arange(20) / fps, atol=1e-4)
    assert Fraction(fps).limit_denominator(10_000) == pytest.approx(fps)


def test_quality_can_be_chosen(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 16, 32, 3), dtype=np.uint8)
    losses = []
    for crf in (0, 40):
        write_lerobot(tmp_path / str(crf), some(image=noise), fps=5, crf=crf)
        losses.append(measure_video_loss(tmp_path / str(crf), some(image=noise))["image"].mean)
    assert losses[0] < losses[1]


def test_without_images_there_are_no_videos(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "d", some(state=np.zeros((20, 3))), fps=5)
    assert json.loads((tmp_path / "d/meta/info.json").read_text())["video_path"] is None
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["data", "meta"]


def test_names_of_features() -> None:
    assert feature_name("action", (2,)) == "action"
    assert feature_name("state", (2,)) == "observation.state"
    assert feature_name("image", (8, 8, 3)) == "observation.image"
    assert feature_name("top", (8, 8, 3)) == "observation.images.top"
    assert feature_name("top", (8, 8)) == "observation.top"
    for name in ("observation.images.top", "observation.image"):  # LeRobot's own names stay
        assert feature_name(name, (8, 8, 3)) == name
    assert feature_name("observation.state", (2,)) == "observation.state"


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"state": np.full((20, 2), np.inf)}, {}, "made up: state holds inf in episode 0, step 0"),
        ({"a/b": np.zeros((20, 2))}, {}, "'a/b' cannot be the name of a LeRobot feature"),
        ({"images.a": np.zeros((20, 2))}, {}, "'images.a' cannot be the name .*rename it"),
        ({"grey": np.zeros((20, 8, 8, 1), np.uint8)}, {}, "images grey have 1 channels; .*have 3"),
        ({"rgba": np.zeros((20, 8, 8, 4), np.uint8)}, {}, "images rgba have 4 channels"),
        ({"wide": np.zeros((20, 2), np.longdouble)}, {}, "wide is .*most 64 bits and 5 dimensions"),
        ({"deep": np.zeros((20, 1, 1, 1, 1, 1, 2))}, {}, "deep is .*most 64 bits and 5 dimensions"),
        ({"action": np.zeros((20, 2, 2))}, {}, "made up: action has rank 3"),
        ({"image": grey(20)}, {"fps": 0}, "fps is 0; expected a number of steps per second"),
        ({"image": grey(20)}, {"fps": math.nan}, "fps is nan"),
        ({"image": grey(20)}, {"crf": 52}, r"crf is 52; expected 0 \(best\) to 51"),
        ({"image": grey(20)}, {"task": ""}, "task is empty"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, arrays: dict[str, np.ndarray], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_lerobot(tmp_path / "d", some(**arrays), **{"fps": 10, **options})
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_refuses_is_named(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.zeros((1, 1, 1, 3), np.uint8), (20, 2, 20_000, 3))
    with pytest.raises(InputError, match="encoder libx264 does not take images of 20000 x 2"):
        write_lerobot(tmp_path / "d", some(image=huge), fps=10)
    assert list(tmp_path.iterdir()) == []


def test_without_an_action(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="made up: there is no array 'action' to write"):
        write_lerobot(
            tmp_path / "d", ReplayBuffer({"s": np.zeros((3, 2))}, np.array([3]), "made up"), fps=5
        )


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        write_lerobot(tmp_path, some(), fps=5)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(lerobot_writer, "_encode", fail)
    with pytest.raises(OSError, match="full"):
        write_lerobot(tmp_path / "d", some(image=grey(20)), fps=5)
    assert list(tmp_path.iterdir()) == []
