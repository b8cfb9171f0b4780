"""LeRobot datasets v2.1 and v3.0, written here as LeRobot writes them, read exactly."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.lerobot.format import LeRobotConfig
from lfm_policy.data.lerobot.info import default_name
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.errors import InputError

FPS = 10
LENGTHS = (7, 4, 9, 5)
HEIGHT, WIDTH = 32, 48
TOP, WRIST = "observation.images.top", "observation.images.wrist"
V21_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V21_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V30_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V30_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


# -- writing ------------------------------------------------------------------------------------


def numbers(n_steps: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n_steps)
    return {
        "action": rng.normal(size=(n_steps, 2)).astype(np.float32),
        "observation.state": rng.normal(size=(n_steps, 4)).astype(np.float32),
        "observation.gripper": rng.normal(size=(n_steps, 1)).astype(np.float32),
        "observation.pose": rng.normal(size=(n_steps, 2, 3)),
        "next.done": rng.integers(0, 2, (n_steps, 1)).astype(bool),
    }


def picture(step: int, key: str) -> np.ndarray:
    """Smooth, and of another red at every neighbouring step; (HEIGHT, WIDTH, 3) uint8."""
    red = 10 + 10 * (step % 23)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    first = np.full((HEIGHT, WIDTH), red if key == TOP else 240 - red)
    return np.stack([first, 4 * x, 5 * y], axis=-1).astype(np.uint8)


def pictures(n_steps: int, key: str) -> np.ndarray:
    return np.stack([picture(step, key) for step in range(n_steps)])


def write_video(path: Path, frames: Sequence[np.ndarray], fps: int = FPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The index of the file stands first, so that half of a file can still be opened.
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12", "g": "5"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def png(image: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": "frame.png"}


def table_of(lengths: Sequence[int], episodes: Sequence[int], embedded: bool) -> pa.Table:
    ends = np.cumsum(lengths)
    steps = np.concatenate([np.arange(ends[e] - lengths[e], ends[e]) for e in episodes])
    columns: dict[str, Any] = {}
    for key, values in numbers(int(ends[-1])).items():
        rows = values[steps]
        kind = pa.from_numpy_dtype(rows.dtype)
        for _ in rows.shape[1:] if rows.shape[1:] != (1,) else ():
            kind = pa.list_(kind)
        columns[key] = pa.array(
            rows.squeeze(-1).tolist() if rows.shape[1:] == (1,) else rows.tolist(), kind
        )
    if embedded:
        for key in (TOP, WRIST):
            columns[key] = pa.array([png(picture(step, key)) for step in steps])
    frame_index = np.concatenate([np.arange(lengths[e]) for e in episodes])
    columns["timestamp"] = (frame_index / FPS).astype(np.float32)
    columns["frame_index"] = frame_index
    columns["episode_index"] = np.repeat(episodes, [lengths[e] for e in episodes])
    columns["index"] = steps
    columns["task_index"] = np.zeros(len(steps), np.int64)
    return pa.table(columns)


def write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=6)


def features(cameras: str) -> dict[str, Any]:
    entries: dict[str, Any] = {
        key: {"dtype": str(values.dtype), "shape": list(values.shape[1:]), "names": None}
        for key, values in numbers(1).items()
    }
    if cameras:
        names = ["height", "width", "channels"]
        entries[TOP] = {"dtype": cameras, "shape": [HEIGHT, WIDTH, 3], "names": names}
        # Channels first is what other recorders say of the same pictures.
        entries[WRIST] = {"dtype": cameras, "shape": [3, HEIGHT, WIDTH], "names": None}
    for key in ("frame_index", "episode_index", "index", "task_index"):
        entries[key] = {"dtype": "int64", "shape": [1], "names": None}
    return entries | {"timestamp": {"dtype": "float32", "shape": [1], "names": None}}


def write_info(root: Path, version: str, lengths: Sequence[int], cameras: str) -> None:
    v21 = version == "v2.1"
    info = {
        "codebase_version": version,
        "robot_type": "none",
        "total_episodes": len(lengths),
        "total_frames": int(sum(lengths)),
        "total_tasks": 1,
        "chunks_size": 3 if v21 else 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": V21_DATA if v21 else V30_DATA,
        "video_path": (V21_VIDEO if v21 else V30_VIDEO) if cameras == "video" else None,
        "features": features(cameras),
    }
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))


def write_v21(root: Path, lengths: Sequence[int] = LENGTHS, cameras: str = "video") -> Path:
    write_info(root, "v2.1", lengths, cameras)
    lines, begin = [], 0
    for episode, length in enumerate(lengths):
        place = f"chunk-{episode // 3:03d}"
        write_table(
            root / "data" / place / f"episode_{episode:06d}.parquet",
            table_of(lengths, [episode], cameras == "image"),
        )
        for key in (TOP, WRIST) if cameras == "video" else ():
            frames = [picture(begin + step, key) for step in range(length)]
            write_video(root / "videos" / place / key / f"episode_{episode:06d}.mp4", frames)
        lines.append(json.dumps({"episode_index": episode, "tasks": ["x"], "length": length}))
        begin += length
    (root / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return root


def write_v30(
    root: Path,
    lengths: Sequence[int] = LENGTHS,
    cameras: str = "video",
    *,
    data_files: Sequence[Sequence[int]] = ((0, 1), (2, 3)),
    video_files: Sequence[Sequence[int]] = ((0, 1, 2), (3,)),
) -> Path:
    """Write several episodes per file; ``*_files`` gives the episodes of each."""
    write_info(root, "v3.0", lengths, cameras)
    ends = np.cumsum(lengths)
    rows: list[dict[str, Any]] = [
        {
            "episode_index": e,
            "tasks": ["x"],
            "length": length,
            "dataset_from_index": int(ends[e]) - length,
            "dataset_to_index": int(ends[e]),
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            "stats/action/mean": [0.0, 1.0],
        }
        for e, length in enumerate(lengths)
    ]
    for file, episodes in enumerate(data_files):
        write_table(
            root / "data" / "chunk-000" / f"file-{file:03d}.parquet",
            table_of(lengths, episodes, cameras == "image"),
        )
        for e in episodes:
            rows[e] |= {"data/chunk_index": 0, "data/file_index": file}
    for key in (TOP, WRIST) if cameras == "video" else ():
        for file, episodes in enumerate(video_files):
            frames: list[np.ndarray] = []
            for e in episodes:
                start = len(frames) / FPS
                frames += [picture(step, key) for step in range(ends[e] - lengths[e], ends[e])]
                rows[e] |= {
                    f"videos/{key}/chunk_index": 0,
                    f"videos/{key}/file_index": file,
                    f"videos/{key}/from_timestamp": start,
                    f"videos/{key}/to_timestamp": len(frames) / FPS,
                }
            write_video(root / "videos" / key / "chunk-000" / f"file-{file:03d}.mp4", frames)
    write_table(root / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    return root


def assert_images(found: np.ndarray, key: str, n_steps: int) -> None:
    expected = pictures(n_steps, key)
    assert found.dtype == np.uint8 and found.shape == expected.shape
    error = np.abs(found.astype(int) - expected)
    # Another step's picture would be 10 away in red.
    assert error[..., 0].mean(axis=(1, 2)).max() < 4
    assert error.mean() < 4


# -- reading ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def v30(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v30(tmp_path_factory.mktemp("data") / "v30")


@pytest.fixture(scope="module")
def v21(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v21(tmp_path_factory.mktemp("data") / "v21")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v30(tmp_path_factory.mktemp("data") / "embedded", cameras="image")


@pytest.fixture(params=["v30", "v21"])
def either(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def load(root: Path, cache: Path | None = None, **options: Any) -> ReplayBuffer:
    return LeRobotConfig(path=str(root), **options).load(cache)


def test_is_found_by_name() -> None:
    assert DATASET_FORMATS.get("lerobot") is LeRobotConfig
    assert LeRobotConfig().name == "lerobot"


def test_all_observations_by_default(either: Path, tmp_path: Path) -> None:
    buffer = load(either, tmp_path)
    assert list(buffer.arrays) == ["action", "state", "gripper", "pose", "top", "wrist"]
    assert buffer.episode_lengths.tolist() == list(LENGTHS)
    expected = numbers(sum(LENGTHS))
    for name, key in (("action", "action"), ("state", "observation.state")):
        np.testing.assert_array_equal(buffer.arrays[name], expected[key])
        assert buffer.arrays[name].dtype == np.float32
    np.testing.assert_array_equal(buffer.arrays["gripper"], expected["observation.gripper"])
    np.testing.assert_array_equal(buffer.arrays["pose"], expected["observation.pose"])
    assert buffer.arrays["pose"].dtype == np.float64
    for name, key in (("top", TOP), ("wrist", WRIST)):
        assert isinstance(buffer.arrays[name], np.memmap)
        assert_images(buffer.arrays[name], key, sum(LENGTHS))


def test_both_versions_hold_the_same(v30: Path, v21: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"obs_keys": ["observation.state", "next.done"]}
    new, old = load(v30, tmp_path, **options), load(v21, tmp_path, **options)
    assert new.fingerprint() == old.fingerprint()


def test_order_names_and_action_as_asked(either: Path, tmp_path: Path) -> None:
    buffer = load(
        either,
        tmp_path,
        action_key="observation.state",
        obs_keys=["next.done", WRIST, "action"],
        rename={WRIST: "image", "action": "last_action"},
        fps=FPS,
    )
    assert list(buffer.arrays) == ["action", "next.done", "image", "last_action"]
    assert buffer.arrays["action"].shape == (sum(LENGTHS), 4)
    assert buffer.arrays["next.done"].dtype == bool
    assert_images(buffer.arrays["image"], WRIST, sum(LENGTHS))


@pytest.mark.parametrize("n_episodes", [1, 3, 9])
def test_max_episodes_takes_the_first(either: Path, n_episodes: int, tmp_path: Path) -> None:
    buffer = load(either, tmp_path, max_episodes=n_episodes)
    assert buffer.episode_lengths.tolist() == list(LENGTHS[:n_episodes])
    n_steps = sum(LENGTHS[:n_episodes])
    expected = numbers(sum(LENGTHS))["action"][:n_steps]
    np.testing.assert_array_equal(buffer.arrays["action"], expected)
    assert_images(buffer.arrays["top"], TOP, n_steps)


def test_files_of_other_episodes_are_not_touched(v30: Path, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    (root / "data/chunk-000/file-001.parquet").unlink()
    (root / f"videos/{TOP}/chunk-000/file-001.mp4").unlink()
    assert load(root, tmp_path / "cache", max_episodes=2).n_episodes == 2


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("observation.state", "state"),
        ("observation.environment_state", "environment_state"),
        ("observation.image", "image"),
        ("observation.images.top", "top"),
        ("observation.images.left.wrist", "left.wrist"),
        ("observation.", "observation."),
        ("next.reward", "next.reward"),
    ],
)
def test_default_names(key: str, name: str) -> None:
    assert default_name(key) == name


def test_images_in_parquet_are_exact(embedded: Path, tmp_path: Path) -> None:
    buffer = load(embedded, tmp_path)
    for name, key in (("top", TOP), ("wrist", WRIST)):
        np.testing.assert_array_equal(buffer.arrays[name], pictures(sum(LENGTHS), key))
    some = load(embedded, tmp_path, obs_keys=[TOP], max_episodes=3)
    np.testing.assert_array_equal(some.arrays["top"], pictures(sum(LENGTHS[:3]), TOP))


def test_gray_pictures_have_one_channel(embedded: Path, tmp_path: Path) -> None:
    root = copy(embedded, tmp_path)
    set_info(root, lambda info: info["features"][TOP].update(shape=[HEIGHT, WIDTH, 1]))
    gray = [picture(step, TOP)[:, :, :1] for step in range(sum(LENGTHS))]
    for file, begin in (("file-000", 0), ("file-001", sum(LENGTHS[:2]))):
        path = root / f"data/chunk-000/{file}.parquet"
        set_column(path, TOP, lambda t, begin=begin: [png(g) for g in gray[begin:][: len(t)]])
    found = load(root, tmp_path / "cache", obs_keys=[TOP]).arrays["top"]
    np.testing.assert_array_equal(found, np.stack(gray))


def test_episodes_in_another_order_inside_the_files(tmp_path: Path) -> None:
    """Rows follow dataset_from_index and videos from_timestamp, not the number of the episode."""
    root = write_v30(
        tmp_path / "demo", data_files=((2, 0), (1, 3)), video_files=((0, 3), (1,), (2,))
    )
    swap_order(root, [2, 0, 1, 3])
    buffer = load(root, tmp_path / "cache")
    assert buffer.episode_lengths.tolist() == list(LENGTHS)
    np.testing.assert_array_equal(buffer.arrays["action"], numbers(sum(LENGTHS))["action"])
    assert_images(buffer.arrays["top"], TOP, sum(LENGTHS))


def test_a_scalar_may_be_a_list_and_numbers_may_be_wider(v30: Path, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    for file in (root / "data").rglob("*.parquet"):
        set_column(file, "observation.gripper", lambda t: [[x] for x in t.to_pylist()])
        set_column(file, "observation.state", lambda t: t.cast(pa.list_(pa.float64(), 4)))
    buffer = load(root, obs_keys=["observation.gripper", "observation.state"])
    expected = numbers(sum(LENGTHS))
    np.testing.assert_array_equal(buffer.arrays["gripper"], expected["observation.gripper"])
    np.testing.assert_array_equal(buffer.arrays["state"], expected["observation.state"])
    assert buffer.arrays["state"].dtype == np.float32


def test_flags_may_be_stored_as_0_and_1(v30: Path, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    entry = {"dtype": "bool", "shape": [1]}
    set_info(root, lambda i: i["features"].update({"observation.contact": entry}))
    for file in (root / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        flags = pa.array(np.arange(len(table)) % 2, pa.int64())
        pq.write_table(table.add_column(0, "observation.contact", flags), file)
    found = load(root, obs_keys=["observation.contact"]).arrays["contact"]
    assert found.dtype == np.bool_ and 0 < found.sum() < len(found)
    set_data(root, "observation.contact", lambda t: [2] * len(t))
    with pytest.raises(InputError, match="holds 2 in row 0; expected values of bool"):
        load(root, obs_keys=["observation.contact"])


def test_a_feature_whose_name_begins_with_another(v30: Path, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    set_info(root, lambda i: i["features"].update({"action.left": {"dtype": "int8", "shape": [1]}}))
    for file in (root / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        extra = pa.array(np.arange(len(table)) % 5, pa.int8())
        pq.write_table(table.add_column(0, "action.left", extra), file)
    buffer = load(root, obs_keys=["action.left"])
    assert buffer.arrays["action"].shape[1] == 2 and buffer.arrays["action.left"].dtype == np.int8


def test_the_cache_is_reused_until_a_file_changes(
    v30: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = copy(v30, tmp_path), tmp_path / "cache"
    load(root, cache, obs_keys=[TOP])

    def never(*args: object) -> Iterator[np.ndarray]:
        raise AssertionError("decoded again")
        yield np.zeros(0)

    with monkeypatch.context() as patch:
        patch.setattr("lfm_policy.data.lerobot.video._decode", never)
        buffer = load(root, cache, obs_keys=[TOP])
        assert_images(buffer.arrays["top"], TOP, sum(LENGTHS))
        with pytest.raises(AssertionError, match="decoded again"):
            load(root, cache, obs_keys=[WRIST])
    path = root / f"videos/{TOP}/chunk-000/file-001.mp4"
    write_video(path, [255 - picture(step, TOP) for step in range(LENGTHS[-1])])
    os.utime(path, ns=(1, 1))
    changed = load(root, cache, obs_keys=[TOP]).arrays["top"]
    assert np.abs(changed[-1].astype(int) - buffer.arrays["top"][-1]).mean() > 20


def test_images_come_in_bounded_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lfm_policy.data.lerobot import video as lerobot_frames

    monkeypatch.setattr(lerobot_frames, "_PART_FRAMES", 4)
    root = write_v30(tmp_path / "demo", (9, 8), data_files=((0, 1),), video_files=((0, 1),))
    assert_images(load(root, tmp_path / "cache").arrays["top"], TOP, 17)
    frames = [np.full((2, 2, 1), i, np.uint8) for i in range(9)]
    parts = list(lerobot_frames.in_parts(frames, (2, 2, 1)))
    assert [len(part) for part in parts] == [4, 4, 1]
    assert np.concatenate(parts)[:, 0, 0, 0].tolist() == list(range(9))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_lengths_in_any_files(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=5))
    cameras = data.draw(st.sampled_from(["video", "video", "image"]))
    folder = tmp_path_factory.mktemp("any")

    def files() -> list[list[int]]:
        cuts = data.draw(st.sets(st.integers(1, len(lengths)), max_size=3)) | {0, len(lengths)}
        edges = sorted(cuts)
        return [list(range(a, b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]

    write_v30(folder / "v30", lengths, cameras, data_files=files(), video_files=files())
    write_v21(folder / "v21", lengths, cameras)
    n_episodes = data.draw(st.integers(1, len(lengths)))
    n_steps = sum(lengths[:n_episodes])
    for version in ("v30", "v21"):
        buffer = load(folder / version, folder / "cache", max_episodes=n_episodes)
        assert buffer.episode_lengths.tolist() == lengths[:n_episodes]
        for key, values in numbers(sum(lengths)).items():
            if key != "next.done":
                np.testing.assert_array_equal(buffer.arrays[default_name(key)], values[:n_steps])
        assert_images(buffer.arrays["top"], TOP, n_steps)
        assert_images(buffer.arrays["wrist"], WRIST, n_steps)
    shutil.rmtree(folder)


# -- damage -------------------------------------------------------------------------------------


def copy(root: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(root, target)
    return target


def set_info(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def set_column(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    table = pq.read_table(path)
    values = change(table.column(name).combine_chunks())
    position = table.column_names.index(name)
    pq.write_table(table.set_column(position, name, pa.chunked_array([pa.array(values)])), path)


def set_rows(path: Path, rows: Sequence[int]) -> None:
    pq.write_table(pq.read_table(path).take(pa.array(rows)), path)


def swap_order(root: Path, order: Sequence[int]) -> None:
    """Give the episodes ``dataset_from_index`` as if they had been recorded in ``order``."""
    begins, begin = {}, 0
    for episode in order:
        begins[episode] = begin
        begin += LENGTHS[episode]
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    starts = [begins[episode] for episode in range(len(LENGTHS))]
    set_column(path, "dataset_from_index", lambda _: starts)
    ends = [start + length for start, length in zip(starts, LENGTHS, strict=True)]
    set_column(path, "dataset_to_index", lambda _: ends)


def truncate(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


DATA = "data/chunk-000/file-000.parquet"
VIDEO = f"videos/{TOP}/chunk-000/file-000.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
STATE = "observation.state"


def feature(key: str, **entry: Any) -> Callable[[Path], None]:
    return lambda root: set_info(root, lambda info: info["features"].update({key: entry}))


def info(**entries: Any) -> Callable[[Path], None]:
    return lambda root: set_info(root, lambda found: found.update(entries))


def text(name: str, content: str) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_text(content)


def column(file: str, name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda root: set_column(root / file, name, change)


def at(row: int, value: Any) -> Callable[[Any], Any]:
    """Replace one value of a column."""
    return lambda array: pa.array(
        [value if i == row else v for i, v in enumerate(array.to_pylist())], array.type
    )


def check(root: Path, cache: Path, message: str, **options: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(root, cache, **options)
    assert len(str(caught.value)) < 2000
    assert not list(cache.glob("*")), "half a cache was left"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "meta/info.json").unlink(), r"no meta/info.json, so this is no LeRobot"),
        (text("meta/info.json", '{"fps": '), "info.json is no JSON"),
        (text("meta/info.json", "[" * 200_000), "info.json is no JSON"),
        (text("meta/info.json", "1" * 5000), "info.json is no JSON"),
        (text("meta/info.json", "[1, 2]"), r"info.json holds \[1, 2\]; expected an object"),
        (text("meta/info.json", '"' + "a" * 2**25 + '"'), "expected at most 16777216"),
        (info(codebase_version=None), "codebase_version is missing; expected 'v2.0', 'v2.1' or"),
        (info(codebase_version=3), "codebase_version is 3; expected 'v2.0', 'v2.1' or 'v3.0'"),
        (info(codebase_version="v1.6"), "is 'v1.6', but.*convert_dataset_v1_to_v2.py"),
        (info(codebase_version="v2.2"), "is 'v2.2', but 'v2.0', 'v2.1' or 'v3.0' are read"),
        (info(codebase_version="v3.1"), "is 'v3.1', but.*update this package"),
        (info(codebase_version="v4.0"), "is 'v4.0', but.*update this package"),
        (info(fps=0), "info.json: fps is 0; expected a number"),
        (info(fps="30"), "fps is '30'; expected a number"),
        (info(fps=float("nan")), "fps is nan; expected a number"),
        (info(fps=True), "fps is True"),
        (info(total_frames=-1), "total_frames is -1; expected an integer"),
        (info(total_frames=26), "lists 4 episodes with 25 steps, but total_frames in .* is 26"),
        (info(total_episodes=5), "lists 4 episodes with 25 steps, but total_episodes in .* is 5"),
        (info(features=[]), r"features is \[\]; expected an object"),
        (info(features={"action": 3}), "no feature is an observation"),
        (info(data_path=None), "data_path is missing; expected a path with fields"),
        (info(data_path="../{file_index}.parquet"), r"path inside the dataset's folder"),
        (info(data_path="/data/{file_index}.parquet"), r"path inside the dataset's folder"),
        (info(data_path="data/{file_index.__class__}"), "unknown field 'file_index.__class__'"),
        (info(data_path="data/{file_index!r}"), "unknown field 'file_index!r'"),
        (info(data_path="data/{episode_index:06d}"), "unknown field 'episode_index'"),
        (info(data_path="data/{file_index:{chunk_index}d}"), "at most with a number of digits"),
        (info(video_path="videos/{key}.mp4"), "unknown field 'key': did you mean 'video_key'"),
        (feature(STATE, dtype="float32", shape=[5]), r"holds a list of 4 in row 0; expected 5"),
        (feature(TOP, dtype="video", shape=[64, 64, 3]), r"frames of 32 x 48 .*expected 64 x 64"),
    ],
)
def test_bad_info(v30: Path, damage: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    damage(root)
    check(root, tmp_path / "cache", message)


# -- features that cannot be observed ------------------------------------------------------------

UNUSABLE: list[tuple[str, Callable[[Path], Any], str]] = [
    (STATE, feature(STATE, dtype="string", shape=[1]), "dtype 'string'; expected a numeric one"),
    (STATE, feature(STATE, dtype="complex64", shape=[4]), "dtype 'complex64'; expected a numeric"),
    (STATE, feature(STATE, dtype=["float32"], shape=[4]), "expected a numeric one"),
    (STATE, feature(STATE, dtype="float32"), "'observation.state' has shape missing"),
    (
        STATE,
        feature(STATE, dtype="float32", shape=[0]),
        r"has shape \[0\]; expected a list of sizes",
    ),
    (STATE, feature(STATE, dtype="float32", shape=[10**6, 10**6]), "per step; expected at most"),
    (STATE, feature(STATE, dtype="float32", shape=[10**12]), r"has shape \[1000000000000\]"),
    (
        STATE,
        feature(STATE, dtype="float32", shape=[2, 2]),
        r"lists of depth 1; expected shape \[2, 2\]",
    ),
    (
        "observation.pose",
        feature("observation.pose", dtype="float64", shape=[6]),
        r"lists of depth 2; expected shape \[6\]",
    ),
    (
        STATE,
        lambda r: set_data(r, STATE, lambda t: ["a"] * len(t)),
        "type string; expected numbers",
    ),
    (
        STATE,
        lambda r: set_data(r, STATE, lambda t: [{"x": 1.0}] * len(t)),
        "has type struct<x: double>; expected numbers",
    ),
    (STATE, feature(STATE, dtype="image", shape=[32, 48, 3]), "has type list<.*expected pictures"),
    (
        "observation.extra",
        feature("observation.extra", dtype="int8", shape=[1]),
        "no column 'observation.extra'",
    ),
    (
        "observation.tactile",
        feature("observation.tactile", dtype="float32", shape=[16, 16, 3]),
        r"has float32 \[16, 16, 3\] per step; images are uint8",
    ),
    (
        STATE,
        feature(STATE, dtype="int64", shape=[4]),
        "holds float32; expected int64, as meta/info.json says",
    ),
    (TOP, feature(TOP, dtype="video", shape=[10**5, 10**5, 3]), "expected images"),
    (TOP, feature(TOP, dtype="video", shape=[64, 80, 4]), r"has shape \[64, 80, 4\]; expected"),
    (TOP, feature(TOP, dtype="video", shape=[HEIGHT, WIDTH, 2]), "expected images"),
    (
        TOP,
        feature(TOP, dtype="video", shape=[32, 48, 3], info={"video.is_depth_map": True}),
        "is a depth map",
    ),
    (
        TOP,
        feature(TOP, dtype="video", shape=[32, 48, 3], video_info={"video.is_depth_map": True}),
        "is a depth map",
    ),
    (
        "observation.images.side",
        feature("observation.images.side", dtype="video", shape=[32, 48, 3]),
        "no column 'videos/observation.images.side/file_index'",
    ),
    (TOP, lambda r: set_codec(r, b"zzzz", "odd"), r"no decoder here for .* \(odd, as meta/info"),
    (TOP, lambda r: shutil.rmtree(r / "videos" / TOP), "no such file, nor any other video of feat"),
    (TOP, lambda r: depth_videos(r), "frames of 12 bits in one channel .gray12le., as depth is"),
]


def set_data(root: Path, name: str, change: Callable[[Any], Any]) -> None:
    for file in (root / "data").rglob("*.parquet"):
        set_column(file, name, change)


def set_codec(root: Path, tag: bytes, name: str) -> None:
    """Make the videos of TOP those of a codec that FFmpeg does not know."""
    for file in (root / "videos" / TOP).rglob("*.mp4"):
        file.write_bytes(file.read_bytes().replace(b"avc1", tag))
    entry = {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "info": {"video.codec": name}}
    set_info(root, lambda info: info["features"].update({TOP: entry}))


def depth_videos(root: Path) -> None:
    for file in (root / "videos" / TOP).rglob("*.mp4"):
        with av.open(str(file), "w") as container:
            stream = container.add_stream("ffv1", rate=FPS)
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "gray12le"
            for _ in range(20):
                frame = av.VideoFrame(WIDTH, HEIGHT, "gray12le")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


@pytest.mark.parametrize(("key", "damage", "message"), UNUSABLE)
def test_an_unusable_feature_asked_for_by_name(
    v30: Path, key: str, damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    root = copy(v30, tmp_path)
    damage(root)
    obs_keys = ["observation.gripper", key]
    check(root, tmp_path / "cache", f"{message}.*obs_keys, without this one", obs_keys=obs_keys)
    check(root, tmp_path / "cache", message, rename={key: "renamed"})


@pytest.mark.parametrize(("key", "damage", "message"), UNUSABLE)
def test_an_unusable_feature_is_left_out_with_a_warning(
    v30: Path, key: str, damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    root = copy(v30, tmp_path)
    damage(root)
    with pytest.warns(UserWarning) as caught:
        buffer = load(root, tmp_path / "cache")
    said = f"copy: {re.escape(key)} is left out, because it cannot be observed: .*{message}"
    assert [bool(re.search(said, str(warning.message))) for warning in caught] == [True]
    names = ["state", "gripper", "pose", "top", "wrist"]
    expected = ["action", *(name for name in names if name != default_name(key))]
    assert list(buffer.arrays) == expected
    for name in expected[:-2]:
        full = "action" if name == "action" else f"observation.{name}"
        if full in numbers(1):
            np.testing.assert_array_equal(buffer.arrays[name], numbers(sum(LENGTHS))[full])
    # Nobody needs the others either.
    assert list(load(root, obs_keys=["observation.gripper"]).arrays) == ["action", "gripper"]


def test_unusable_pictures(embedded: Path, tmp_path: Path) -> None:
    root = copy(embedded, tmp_path)
    tiff = io.BytesIO()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(tiff, format="TIFF")
    depth = png(np.zeros((HEIGHT, WIDTH), np.uint16))
    for picture_of_depth, message in (
        ({"bytes": tiff.getvalue(), "path": "0.tiff"}, "row 0 .* is a TIFF, as depth is stored"),
        (depth, "row 0 .* is a grey picture of 16 bits; dataset.depth="),
    ):
        set_data(root, TOP, lambda t, image=picture_of_depth: [image] * len(t))
        with pytest.warns(UserWarning, match=f"images.top is left out.*{message}"):
            buffer = load(root, tmp_path / "cache")
        assert list(buffer.arrays) == ["action", "state", "gripper", "pose", "wrist"]
        with pytest.raises(InputError, match=message):
            load(root, tmp_path / "none", obs_keys=[TOP])


def test_nothing_is_left_to_observe(v30: Path, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    odd = {key: {"dtype": "string", "shape": [1]} for key in ("observation.a", "observation.b")}
    set_info(root, lambda i: i.update(features=odd | {"action": i["features"]["action"]}))
    check(root, tmp_path / "cache", "no observation can be used.*observation.a.*observation.b")


def test_an_action_that_cannot_be_read(v30: Path, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    feature("action", dtype="string", shape=[1])(root)
    check(root, tmp_path / "cache", "dtype 'string'.* it is the action: choose another action_key")


def test_two_features_of_one_name(v30: Path, tmp_path: Path) -> None:
    root = copy(v30, tmp_path)
    feature("observation.top", dtype="int8", shape=[1])(root)
    for file in (root / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        table = table.append_column("observation.top", pa.array([0] * len(table), pa.int8()))
        pq.write_table(table, file)
    check(root, tmp_path / "cache", "expected different names")


def test_video_path_of_a_camera(v30: Path, tmp_path: Path) -> None:
    """Null says that there are none; where nothing is said, they are where LeRobot has them."""
    root = copy(v30, tmp_path)
    set_info(root, lambda info: info.update(video_path=None))
    message = "video_path is missing, but feature '.*top' has dtype video"
    check(root, tmp_path / "cache", message, obs_keys=[TOP])
    with pytest.warns(UserWarning, match=message):
        assert list(load(root, tmp_path / "none").arrays)[1:] == ["state", "gripper", "pose"]
    set_info(root, lambda info: info.pop("video_path"))
    with pytest.warns(AssumptionWarning, match="video_path is missing: assumed .*videos/{video_k"):
        assert_images(load(root, tmp_path / "cache").arrays["top"], TOP, sum(LENGTHS))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / EPISODES).unlink(), "there is no chunk-000/file-000.parquet"),
        (lambda r: truncate(r / EPISODES), "episodes/chunk-000/file-000.parquet: .*cut off"),
        (lambda r: set_rows(r / EPISODES, [0, 1, 2]), "lists 3 episodes with 20 steps, but total_"),
        (lambda r: set_rows(r / EPISODES, [0, 1, 2, 2]), "episode_index 2 occurs twice"),
        (column(EPISODES, "length", at(1, 5)), "has length 5, but dataset_from_index 7 and .* 11"),
        (column(EPISODES, "length", at(1, 0)), "episode 1: length is 0; expected 1 to"),
        (column(EPISODES, "length", at(1, 10**15)), "length is 1000000000000000; expected 1 to"),
        (column(EPISODES, "length", at(1, None)), r"'length' is empty \(null\) in row 1"),
        (column(EPISODES, "episode_index", at(1, -1)), "episode_index is -1"),
        (column(EPISODES, "data/file_index", at(1, -1)), "data/file_index is -1"),
        (column(EPISODES, "data/file_index", at(1, 7)), "file-007.parquet: there is no such file"),
        (column(EPISODES, f"videos/{TOP}/file_index", at(3, 7)), "file-007.mp4: there is no such"),
        (column(EPISODES, f"videos/{TOP}/from_timestamp", at(1, -1.0)), "from_timestamp is -1"),
        (column(EPISODES, f"videos/{TOP}/to_timestamp", at(1, float("inf"))), "to_timestamp inf"),
        (
            column(EPISODES, f"videos/{TOP}/to_timestamp", at(1, 1.0)),
            r"episode 1 is over at 1.000 s .*last step is at 1.000 s; expected it a frame period",
        ),
        (
            column(EPISODES, f"videos/{TOP}/from_timestamp", at(1, 0.2)),
            "episode 1 begins at 0.200 s, before episode 0 is over at 0.600 s",
        ),
        (lambda r: (r / DATA).unlink(), "file-000.parquet: there is no such file, but episode 0"),
        (lambda r: truncate(r / DATA), "parquet: the parquet file cannot be read"),
        (text(DATA, "no parquet at all"), "parquet: the parquet file cannot be read"),
        (lambda r: set_rows(r / DATA, range(10)), "holds 10 rows; expected 11, the length of"),
        (
            lambda r: set_rows(r / DATA, [0, 1, 3, 2, *range(4, 11)]),
            "frame_index is 3 in row 2; expected 2, as step 2 of episode 0",
        ),
        (
            lambda r: set_rows(r / DATA, [*range(7), 0, 1, 2, 3]),
            "episode_index is 0 in row 7; expected 1, as step 0 of episode 1",
        ),
        (column(DATA, "frame_index", at(9, 7)), "frame_index is 7 in row 9; expected 2"),
        (column(DATA, "timestamp", at(9, 0.1)), r"timestamp is 0.1\d* in row 9, after 0.1"),
        (column(DATA, "timestamp", at(9, float("nan"))), "timestamp is nan in row 9"),
        (
            column(DATA, "timestamp", lambda t: t.to_numpy() * np.float32(0.5)),
            "by 0.05 s per step in episode 0, which is 20 fps; expected 0.1 s, as fps .* is 10",
        ),
        (column(DATA, STATE, at(8, [1.0, float("nan"), 0, 0])), "state holds nan in episode 1"),
        (column(DATA, STATE, at(8, None)), r"'observation.state' is empty"),
        (column(DATA, STATE, at(8, [1, None, 1, 1])), "'observation.state' is empty .* in row 8"),
        (column(DATA, STATE, lambda t: at(8, [1] * 3)(at(2, [1] * 5)(t))), "list of 5 in row 2"),
        (column(DATA, STATE, lambda t: ["a"] * len(t)), "has type string; expected numbers"),
        (column(DATA, "frame_index", lambda t: t.cast(pa.float32())), "frame_index' holds float32"),
        (lambda r: drop(r / DATA, "timestamp"), "there is no column 'timestamp'"),
        (lambda r: (r / VIDEO).unlink(), "file-000.mp4: there is no such file"),
        (lambda r: truncate(r / VIDEO), r"file-000.mp4: (the video cannot|step .* the video is)"),
        (lambda r: truncate(r / VIDEO, 0.01), "file-000.mp4: the video cannot be decoded"),
        (text(VIDEO, "#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n"), "the video cannot be decoded"),
        (
            lambda r: write_video(r / VIDEO, pictures(17, TOP)),
            r"step 6 of episode 2 is at 1.700 s.*at 1.600 s and the last one: the video is too sh",
        ),
        (
            lambda r: write_video(r / VIDEO, pictures(20, TOP), fps=8),
            "step 3 of episode 0 is at 0.300 s, but the nearest frame is at 0.250 s; expected one",
        ),
        (
            lambda r: write_video(r / VIDEO, pictures(20, TOP), fps=20),
            r"is at 1.000 s, but the nearest frame is at 0.950 s and the last one",
        ),
        (
            lambda r: write_video(r / VIDEO, np.zeros((20, 64, 64, 3), np.uint8)),
            r"frames of 64 x 64 \(height x width\); expected 32 x 48",
        ),
    ],
)
def test_damaged_v30(
    v30: Path, damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    root = copy(v30, tmp_path)
    damage(root)
    check(root, tmp_path / "cache", message, obs_keys=[STATE, TOP])


def drop(path: Path, name: str) -> None:
    pq.write_table(pq.read_table(path).drop_columns([name]), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "meta/episodes.jsonl").unlink(), "episodes.jsonl: there is no such file"),
        (text("meta/episodes.jsonl", "{"), "episodes.jsonl: line 1 is no JSON"),
        (text("meta/episodes.jsonl", "[" * 10**5), "episodes.jsonl: line 1 is no JSON"),
        (text("meta/episodes.jsonl", "x" * 2**21), "has a line of more than 1048576 bytes"),
        (text("meta/episodes.jsonl", '{"length": 3}'), "expected an object with integers"),
        (
            text("meta/episodes.jsonl", '{"episode_index": 0, "length": true}'),
            "expected an object with integers",
        ),
        (
            text("meta/episodes.jsonl", '{"episode_index": 0, "length": 99}'),
            "lists 1 episodes with 99 steps, but total_episodes",
        ),
        (info(chunks_size=0), "chunks_size is 0; expected an integer of at least 1"),
        (info(chunks_size=2), "chunk-001/episode_000002.parquet: there is no such file"),
        (
            lambda r: set_rows(r / "data/chunk-000/episode_000001.parquet", [0, 1, 2]),
            "episode_000001.parquet: holds 3 rows; expected 4, the length of episode 1",
        ),
        (
            lambda r: (r / f"videos/chunk-001/{WRIST}/episode_000003.mp4").unlink(),
            "episode_000003.mp4: there is no such file, but the frames of episode 3 are there",
        ),
        (
            lambda r: write_video(
                r / f"videos/chunk-000/{TOP}/episode_000001.mp4", pictures(3, TOP)
            ),
            "step 3 of episode 1 is at 0.300 s.*too short",
        ),
        (
            feature("observation.a/../../../../b", dtype="video", shape=[8, 8, 3]),
            r"gives the path .* expected a path inside the dataset's folder",
        ),
    ],
)
def test_damaged_v21(
    v21: Path, damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    root = copy(v21, tmp_path)
    damage(root)
    check(root, tmp_path / "cache", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at(2, None), "row 2 .episode 0. holds no bytes"),
        (at(2, {"bytes": None, "path": "/etc/hostname"}), "row 2 .episode 0. holds no bytes"),
        (at(8, {"bytes": b"no picture", "path": ""}), "row 8 .episode 1. is no picture that can"),
        (at(8, {"bytes": png(picture(0, TOP))["bytes"][:-40], "path": ""}), "row 8 .* no picture"),
        (at(8, png(np.zeros((9, 9, 3), np.uint8))), "picture of 9 x 9 .*expected 32 x 48"),
        (at(8, png(np.zeros((32, 48), np.uint16))), "is a grey picture of 16 bits; dataset.depth="),
        (lambda t: [b"x"] * len(t), "has type binary; expected pictures, a struct of bytes"),
        (lambda t: [{"path": "x"}] * len(t), "expected pictures, a struct of bytes"),
    ],
)
def test_damaged_pictures(
    embedded: Path, change: Callable[[Any], Any], message: str, tmp_path: Path
) -> None:
    root = copy(embedded, tmp_path)
    set_column(root / DATA, TOP, change)
    check(root, tmp_path / "cache", message, obs_keys=[TOP])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "has no path: set dataset.path"),
        ({"obs_keys": ["observation.stat"]}, "no feature 'observation.stat': did you mean 'obs"),
        ({"obs_keys": [STATE], "action_key": "actions"}, "no feature 'actions': .*'action'"),
        ({"obs_keys": [STATE], "action_key": TOP}, "has dtype video; expected numbers"),
        ({"obs_keys": [STATE], "action_key": "observation.pose"}, "action has rank 3"),
        ({"fps": 30}, r"info.json: fps is 10, but dataset.fps is 30"),
        ({"rename": {"state": "x"}}, "rename names 'state', which is not among obs_keys"),
        ({"revision": "v3.0"}, "is a local folder: a revision is for a dataset on the hub"),
    ],
)
def test_what_does_not_fit_the_dataset(
    v30: Path, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        LeRobotConfig(**{"path": str(v30), **options}).load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obs_keys": ["action"]}, "the policy would be shown what it has to predict"),
        ({"obs_keys": ["a", "a"]}, "names a key twice"),
        ({"obs_keys": ["a"], "rename": {"b": "c"}}, "rename names 'b', which is not among"),
        ({"obs_keys": ["a"], "rename": {"a": "action"}}, "none of them empty or 'action'"),
        ({"obs_keys": ["observation.a", "observation.images.a"]}, "expected different names"),
        ({"fps": 0}, "fps is 0, expected a number above 0"),
        ({"max_episodes": 0}, "max_episodes is 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LeRobotConfig(**options)


def test_from_the_hub(v30: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that are needed are downloaded, and no others."""
    asked = []
    snapshot = tmp_path / ("a" * 40)

    def download(hub_id: str, **options: Any) -> str:
        asked.append((hub_id, options["repo_type"], options["revision"]))
        for pattern in options["allow_patterns"]:
            for file in filter(
                Path.is_file, v30.glob(pattern.replace("episodes/*", "episodes/*/*"))
            ):
                target = snapshot / file.relative_to(v30)
                target.parent.mkdir(parents=True, exist_ok=True)
                # As in the cache of the hub: a link to the content, outside of the snapshot.
                target.symlink_to(file)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"obs_keys": [TOP, STATE], "max_episodes": 2}
    config = LeRobotConfig(path="somebody/pusht", revision="v3.0", **options)
    buffer = config.load(tmp_path / "cache")
    assert buffer.fingerprint() == load(v30, tmp_path / "cache", **options).fingerprint()
    assert asked == [
        ("somebody/pusht", "dataset", "v3.0"),
        ("somebody/pusht", "dataset", "a" * 40),
    ]
    files = {str(f.relative_to(snapshot)) for f in snapshot.rglob("*") if f.is_file()}
    assert files == {"meta/info.json", EPISODES, DATA, VIDEO}
