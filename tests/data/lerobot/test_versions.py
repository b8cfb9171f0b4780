"""LeRobot's versions and dialects: what some of them lack is not needed, and is said."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.lerobot.format import LeRobotConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tools.convert import convert
from lfm_policy.data.zarr.store import load_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

FPS = 20
SIDE = 32
EGO = "observation.images.ego_view"
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
NEEDED = ("timestamp", "frame_index", "episode_index")
V2_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V2_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V3_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


# -- writing ------------------------------------------------------------------------------------


def truth(n_steps: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n_steps)
    return {
        "action": rng.normal(size=(n_steps, 3)),
        "observation.state": rng.normal(size=(n_steps, 5)),
    }


def grey_levels(n_steps: int) -> np.ndarray:
    """Of all pixels of each frame: neighbours are 20 apart."""
    return 20 + 20 * (np.arange(n_steps) % 10)


def write_video(path: Path, levels: Collection[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "12"})
        stream.height = stream.width = SIDE
        stream.pix_fmt = "yuv420p"
        for level in levels:
            frame = np.full((SIDE, SIDE, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def rows(lengths: Sequence[int], episodes: Sequence[int], lacking: Collection[str]) -> pa.Table:
    ends = np.cumsum(lengths)
    steps = np.concatenate([np.arange(ends[e] - lengths[e], ends[e]) for e in episodes])
    frame_index = np.concatenate([np.arange(lengths[e]) for e in episodes])
    columns: dict[str, Any] = {
        key: pa.array(values[steps].tolist(), pa.list_(pa.float64()))
        for key, values in truth(int(ends[-1])).items()
    }
    columns |= {
        "timestamp": frame_index / FPS,
        "frame_index": frame_index,
        "episode_index": np.repeat(episodes, [lengths[e] for e in episodes]),
        "index": steps,
        "task_index": np.zeros(len(steps), np.int64),
        "annotation.human.action.task_description": np.zeros(len(steps), np.int64),
        "next.done": frame_index < 0,
    }
    return pa.table({name: values for name, values in columns.items() if name not in lacking})


def write(
    root: Path,
    version: str,
    lengths: Sequence[int],
    *,
    lacking: Collection[str] = (),
    camera: bool = False,
) -> Path:
    """Write a dataset; ``lacking`` names columns and entries of info.json to leave out."""
    by_episode = version.lstrip("v").startswith("2")
    ends = np.cumsum(lengths)
    features: dict[str, Any] = {
        key: {"dtype": "float64", "shape": list(values.shape[1:])}
        for key, values in truth(1).items()
    }
    features |= {name: {"dtype": "int64", "shape": [1]} for name in BOOKKEEPING[1:]}
    features["timestamp"] = {"dtype": "float64", "shape": [1]}
    if camera:
        features[EGO] = {
            "dtype": "video",
            "shape": [SIDE, SIDE, 3],
            "names": ["height", "width", "channel"],
            "video_info": {"video.fps": float(FPS), "video.codec": "h264"},
        }
    info = {
        "codebase_version": version,
        "robot_type": "GR1ArmsOnly",
        "total_episodes": len(lengths),
        "total_frames": int(ends[-1]),
        "total_tasks": 1,
        "total_videos": len(lengths) * camera,
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": float(FPS),
        "splits": {"train": "0:100"},
        "data_path": V2_DATA if by_episode else V3_DATA,
        "video_path": V2_VIDEO if by_episode else V3_VIDEO,
        "features": features,
    }
    (root / "meta").mkdir(parents=True)
    text = json.dumps({name: entry for name, entry in info.items() if name not in lacking})
    (root / "meta/info.json").write_text(text)
    (root / "meta/modality.json").write_text('{"state": {"arm": {"start": 0, "end": 5}}}')
    (root / "meta/stats.json").write_text("{}")
    (write_v2 if by_episode else write_v3)(root, lengths, lacking, camera)
    return root


def write_v2(root: Path, lengths: Sequence[int], lacking: Collection[str], camera: bool) -> None:
    levels, ends = grey_levels(sum(lengths)), np.cumsum(lengths)
    (root / "data/chunk-000").mkdir(parents=True)
    for episode, length in enumerate(lengths):
        table = rows(lengths, [episode], lacking)
        pq.write_table(table, root / f"data/chunk-000/episode_{episode:06d}.parquet")
        if camera:
            video = root / f"videos/chunk-000/{EGO}/episode_{episode:06d}.mp4"
            write_video(video, levels[ends[episode] - length : ends[episode]])
    lines = [
        {"episode_index": e, "tasks": ["x"], "length": length} for e, length in enumerate(lengths)
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "x"}')


def write_v3(root: Path, lengths: Sequence[int], lacking: Collection[str], camera: bool) -> None:
    ends = np.cumsum(lengths)
    (root / "data/chunk-000").mkdir(parents=True)
    cut = (len(lengths) + 1) // 2
    files = [list(range(cut)), *([list(range(cut, len(lengths)))] if cut < len(lengths) else [])]
    for number, episodes in enumerate(files):
        path = root / f"data/chunk-000/file-{number:03d}.parquet"
        pq.write_table(rows(lengths, episodes, lacking), path)
    table = [
        {
            "episode_index": e,
            "length": length,
            "dataset_from_index": int(ends[e]) - length,
            "dataset_to_index": int(ends[e]),
            "data/chunk_index": 0,
            "data/file_index": int(e >= cut),
            f"videos/{EGO}/chunk_index": 0,
            f"videos/{EGO}/file_index": 0,
            f"videos/{EGO}/from_timestamp": (int(ends[e]) - length) / FPS,
            f"videos/{EGO}/to_timestamp": int(ends[e]) / FPS,
        }
        for e, length in enumerate(lengths)
    ]
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist(table), path)
    if camera:
        write_video(root / f"videos/{EGO}/chunk-000/file-000.mp4", grey_levels(int(ends[-1])))


def load(root: Path, cache: Path | None = None, **options: Any) -> tuple[ReplayBuffer, list[str]]:
    """Return what is read and what was assumed; any other warning is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        buffer = LeRobotConfig(path=str(root), **options).load(cache)
    assert all(warning.category is AssumptionWarning for warning in caught)
    return buffer, [str(warning.message) for warning in caught]


def assert_true(buffer: ReplayBuffer, lengths: Sequence[int]) -> None:
    assert buffer.episode_lengths.tolist() == list(lengths)
    expected = truth(sum(lengths))
    np.testing.assert_array_equal(buffer.arrays["action"], expected["action"])
    np.testing.assert_array_equal(buffer.arrays["state"], expected["observation.state"])
    if "ego_view" in buffer.arrays:
        found = buffer.arrays["ego_view"].astype(int).mean(axis=(1, 2, 3))
        assert np.abs(found - grey_levels(sum(lengths))).max() < 5


# -- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v2.0", "2.0", "v2.1", "v2.1.0", "v3.0", "3.0", "v3.0.1"])
def test_versions(version: str, tmp_path: Path) -> None:
    lengths = (5, 9, 3)
    root = write(tmp_path / "set", version, lengths, camera=True)
    buffer, assumed = load(root, tmp_path / "cache")
    assert list(buffer.arrays) == ["action", "state", "ego_view"] and not assumed
    assert_true(buffer, lengths)


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
@pytest.mark.parametrize("lacking", [("frame_index",), ("timestamp",), BOOKKEEPING])
def test_without_bookkeeping(version: str, lacking: tuple[str, ...], tmp_path: Path) -> None:
    lengths = (5, 9, 3)
    root = write(tmp_path / "set", version, lengths, lacking=lacking, camera=True)
    buffer, assumed = load(root, tmp_path / "cache")
    assert_true(buffer, lengths)
    said = {
        name: [text for text in assumed if f": {name} is missing: assumed" in text]
        for name in NEEDED
    }
    assert {name: len(texts) for name, texts in said.items()} == {
        name: int(name in lacking) for name in NEEDED
    }
    assert len(assumed) == len(set(lacking) & set(NEEDED))
    if "timestamp" in lacking:
        assert "step k of an episode is at k / fps seconds" in said["timestamp"][0]


INFO = (
    "total_frames",
    "total_episodes",
    "total_videos",
    "total_tasks",
    "total_chunks",
    "splits",
    "chunks_size",
    "robot_type",
    "data_path",
    "video_path",
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    version=st.sampled_from(["v2.0", "v2.1", "v3.0"]),
    lacking=st.sets(st.sampled_from([*BOOKKEEPING, *INFO, "next.done"])),
    data=st.data(),
)
def test_whatever_is_missing(
    lengths: list[int],
    version: str,
    lacking: set[str],
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    root = write(folder / "set", version, lengths, lacking=lacking)
    n_episodes = data.draw(st.integers(1, len(lengths)))
    buffer, assumed = load(root, max_episodes=n_episodes)
    n_steps = sum(lengths[:n_episodes])
    assert buffer.episode_lengths.tolist() == lengths[:n_episodes]
    expected = truth(sum(lengths))
    np.testing.assert_array_equal(buffer.arrays["action"], expected["action"][:n_steps])
    np.testing.assert_array_equal(buffer.arrays["state"], expected["observation.state"][:n_steps])
    needed = {*NEEDED, "total_frames", "total_episodes", "data_path"}
    needed |= {"chunks_size"} if version < "v3" else set()
    said = {text.split(" is missing: assumed that ")[0].rpartition(": ")[2] for text in assumed}
    assert said == lacking & needed and len(assumed) == len(said)
    shutil.rmtree(folder)


def test_columns_that_only_some_files_have_are_a_hole(tmp_path: Path) -> None:
    root = write(tmp_path / "set", "v2.0", (5, 9, 3))
    path = root / "data/chunk-000/episode_000001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["frame_index"]), path)
    message = r"episode_000001.parquet: there is no column 'frame_index', but .*episode_000000.par"
    with pytest.raises(InputError, match=message):
        load(root)
    shutil.copy(path, root / "data/chunk-000/episode_000000.parquet")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.slice(0, 8), "episode_000001.parquet: holds 8 rows; expected 9"),
        (lambda t: t.take([0, 1, 3, 2, 4, 5, 6, 7, 8]), "timestamp is 0.1 in row 3, after 0.15"),
    ],
)
def test_holes_of_a_set_without_frame_index(
    damage: Callable[[pa.Table], pa.Table], message: str, tmp_path: Path
) -> None:
    root = write(tmp_path / "set", "v2.0", (5, 9, 3), lacking=["frame_index"])
    path = root / "data/chunk-000/episode_000001.parquet"
    pq.write_table(damage(pq.read_table(path)), path)
    with pytest.raises(InputError, match=message):
        load(root)


def test_announced_numbers_are_still_compared(tmp_path: Path) -> None:
    root = write(tmp_path / "set", "v2.0", (5, 9, 3), lacking=["total_frames"])
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"total_episodes": 4}))
    with pytest.raises(InputError, match="lists 3 episodes with 17 steps, but total_episodes in"):
        load(root)


@pytest.mark.parametrize("asked", ["timestamp", "frame_index"])
def test_a_missing_column_that_is_asked_for(asked: str, tmp_path: Path) -> None:
    root = write(tmp_path / "set", "v2.0", (5, 9), lacking=[asked])
    with pytest.raises(InputError, match=f"there is no column '{asked}'"):
        load(root, obs_keys=["observation.state", asked])
    whole = write(tmp_path / "whole", "v2.0", (5, 9))
    assert load(whole, obs_keys=[asked])[0].arrays[asked].shape == (14, 1)


# -- GR00T --------------------------------------------------------------------------------------


@pytest.fixture
def gr00t(tmp_path: Path) -> Path:
    """As GR00T's demonstrations: no frame_index, no names, a camera without videos, late times."""
    root = write(tmp_path / "gr00t", "v2.0", (6, 8), lacking=["frame_index"], camera=True)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["observation.images.egoview"] = {"dtype": "video", "shape": [80, 128, 3]}
    info["features"]["annotation.human.validity"] = {"dtype": "string", "shape": [1]}
    (root / "meta/info.json").write_text(json.dumps(info))
    shift_times(root, 1 / FPS)
    return root


def shift_times(root: Path, seconds: float) -> None:
    for path in (root / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        times = pa.array(table.column("timestamp").to_numpy() + seconds)
        position = table.column_names.index("timestamp")
        pq.write_table(table.set_column(position, "timestamp", times), path)


def test_gr00t(gr00t: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning) as caught:
        buffer = LeRobotConfig(path=str(gr00t)).load(tmp_path / "cache")
    assert list(buffer.arrays) == ["action", "state", "ego_view"]
    assert_true(buffer, (6, 8))
    left_out, frame_index, first = (str(warning.message) for warning in caught)
    assert "observation.images.egoview is left out" in left_out
    assert "no such file, nor any other video of feature" in left_out
    assert (
        "frame_index is missing: assumed that the rows of an episode are its steps" in frame_index
    )
    assert (
        "timestamp 0 of the first step (found up to 0.05 s) is missing: assumed that frame k"
        in first
    )


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
@pytest.mark.parametrize("seconds", [1 / FPS, 1.7e9, -3.0])
def test_times_that_begin_somewhere_else(seconds: float, version: str, tmp_path: Path) -> None:
    """Where a video has as many frames as its episode has steps, they belong together."""
    root = write(tmp_path / "set", version, (6, 8), camera=True)
    shift_times(root, seconds)
    buffer, assumed = load(root, tmp_path / "cache")
    assert_true(buffer, (6, 8))
    assert len(assumed) == 1 and "timestamp 0 of the first step" in assumed[0]


@pytest.mark.parametrize("seconds", [1.7e9, -3.0, 3.0])
def test_frames_that_do_not_fit_times_that_begin_somewhere_else(
    seconds: float, tmp_path: Path
) -> None:
    root = write(tmp_path / "set", "v2.1", (6, 8), camera=True)
    shift_times(root, seconds)
    write_video(root / f"videos/chunk-000/{EGO}/episode_000001.mp4", grey_levels(9))
    with pytest.raises(InputError, match=r"episode_000001.mp4: step 0 of episode 1 is at"):
        load(root, tmp_path / "cache")


def test_times_say_which_frames_of_a_longer_video(tmp_path: Path) -> None:
    """An episode cut out of a recording: its times point into the video."""
    root = write(tmp_path / "set", "v2.1", (8,), camera=True)
    shift_times(root, 2 / FPS)
    write_video(root / f"videos/chunk-000/{EGO}/episode_000000.mp4", [0, 0, *grey_levels(8)])
    buffer, assumed = load(root, tmp_path / "cache")
    assert_true(buffer, (8,))
    assert not assumed


def test_inspection_says_what_was_assumed(gr00t: Path) -> None:
    found = inspect_dataset(gr00t).to_dict()
    assert (found["episodes"], found["steps"], found["fps"]) == (2, 14, FPS)
    assert found["arrays"]["observation.state"]["shape"] == [14, 5]
    assert found["arrays"][EGO]["frames_read"] == 14
    notes = " ".join(found["notes"])
    assert notes.count("frame_index is missing: assumed") == 1
    assert notes.count("timestamp 0 of the first step (found up to 0.05 s) is missing") == 1
    unusable = [w for w in found["warnings"] if w["kind"] == "unusable_array"]
    assert [w["key"] for w in unusable] == ["observation.images.egoview"]
    assert "nor any other video" in unusable[0]["message"]


def test_conversion_of_a_gr00t_set(gr00t: Path, tmp_path: Path) -> None:
    with pytest.warns(AssumptionWarning, match="frame_index is missing"):
        conversion = convert(gr00t, tmp_path / "out.zarr")
    assert set(conversion.shapes) == {"action", "state", "ego_view"}
    buffer = load_zarr(tmp_path / "out.zarr", ["action", "state"])
    np.testing.assert_array_equal(buffer.arrays["action"], truth(14)["action"])


# -- versions that are not read -----------------------------------------------------------------


def version_1(root: Path) -> Path:
    (root / "meta_data").mkdir(parents=True)
    (root / "meta_data/info.json").write_text('{"codebase_version": "v1.6", "fps": 20}')
    return root


def test_version_1_has_another_folder(tmp_path: Path) -> None:
    root = version_1(tmp_path / "old")
    message = (
        "of version 1, but 'v2.0', 'v2.1' or 'v3.0' are read here: .*convert_dataset_v1_to_v2.py"
    )
    with pytest.raises(InputError, match=message):
        load(root)
    with pytest.raises(InputError, match=message):
        inspect_dataset(root)
    with pytest.raises(InputError, match=message):
        convert(root, tmp_path / "out.zarr")
