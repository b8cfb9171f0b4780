"""Conversions: nothing is lost on any way round, except by videos, where the loss is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.tasks.choice import shown_tasks
from lfm_policy.data.tools.convert import Conversion, ConvertOptions, convert, target_format
from lfm_policy.data.zarr.store import list_zarr, load_zarr, write_zarr
from lfm_policy.errors import InputError
from lfm_policy.options import option
from lfm_policy.options import options as checked_options

pytestmark = pytest.mark.slow

ENV_ARGS = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}


def read_env_args(path: Path) -> dict[str, Any]:
    with RobomimicFile(path) as file:
        return file.env_args()


def make_buffer(lengths: tuple[int, ...] = (5, 1, 9), *, images: bool = True) -> ReplayBuffer:
    rng, n = np.random.default_rng(0), sum(lengths)
    arrays = {
        "action": rng.uniform(-400, 500, (n, 2)),
        "state": rng.normal(size=(n, 5)).astype(np.float32),
        "keypoint": rng.normal(size=(n, 4, 2)).astype(np.float32),
        "contacts": rng.integers(-(2**62), 2**62, (n, 1)),
        "flags": rng.integers(0, 255, (n, 3), dtype=np.uint8),
    }
    if images:
        levels = (20 + 12 * np.arange(n)).astype(np.uint8)[:, None, None, None]
        arrays["image"] = np.broadcast_to(levels, (n, 16, 24, 3)).copy()
        arrays["wrist"] = np.broadcast_to(255 - levels, (n, 15, 17, 3)).copy()
    return ReplayBuffer(arrays, np.cumsum(lengths), "made up")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_zarr(tmp_path / "in.zarr", make_buffer())
    return tmp_path / "in.zarr"


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    buffer = make_buffer((3,) * 12, images=False)
    path = tmp_path / "in.hdf5"
    write_robomimic(path, buffer, env_args=ENV_ARGS)
    with h5py.File(path, "a") as file:
        file["mask/some"] = np.array(["demo_10", "demo_2"], "S")
    return path


def read_zarr(path: Path) -> ReplayBuffer:
    return load_zarr(path, list_zarr(path).readable)


def assert_same(found: ReplayBuffer, expected: ReplayBuffer, *, lossy: bool = False) -> None:
    np.testing.assert_array_equal(found.episode_ends, expected.episode_ends)
    assert set(found.arrays) == set(expected.arrays)
    for key, values in expected.arrays.items():
        assert found.arrays[key].dtype == values.dtype, key
        if lossy and key in ("image", "wrist"):
            assert np.abs(found.arrays[key].astype(int) - values).max() <= 4, key
        else:
            np.testing.assert_array_equal(found.arrays[key], values, err_msg=key)


# -- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["a.hdf5", "b.zarr"],
        ["a.zarr.zip", "b.h5", "c.zarr"],
        ["a", "b.zarr"],
        ["a.hdf5", "b", "c.zarr"],
        ["a", "b.hdf5", "c", "d.zarr"],
    ],
)
def test_there_and_back_again(store: Path, names: list[str]) -> None:
    folder = store.parent
    paths = [store, *(folder / name for name in names)]
    for source, target in pairwise(paths):
        # Only zarr does not say its rate: the others keep it.
        fps = 10 if ".zarr" in source.name else None
        assert convert(source, target, ConvertOptions(fps=fps)).fps == 10
    assert_same(read_zarr(paths[-1]), make_buffer(), lossy="a" in names or "b" in names)
    assert sorted(folder.iterdir()) == sorted(paths)  # no temporary folder stays


@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    dtype=st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "bool"]),
    seed=st.integers(0, 99),
)
def test_numbers_survive_all_formats(
    lengths: list[int], shape: list[int], dtype: str, seed: int
) -> None:
    rng, n = np.random.default_rng(seed), sum(lengths)
    low = rng.integers(0, 256, (n, *shape)).astype(np.uint8)
    if dtype in ("float32", "float64"):
        # Any finite bits, denormal numbers and minus zero among them.
        bits = rng.integers(0, 2**31, (n, *shape)).astype(np.uint32).view(np.float32)
        low = np.where(np.isfinite(bits), bits, np.float32(-0.0))
    arrays = {"action": rng.normal(size=(n, 2)), "low": low.astype(dtype)}
    buffer = ReplayBuffer(arrays, np.cumsum(lengths))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_zarr(folder / "a.zarr", buffer)
        for source, target in pairwise(["a.zarr", "b.hdf5", "c", "d.zarr"]):
            convert(folder / source, folder / target, ConvertOptions(fps=3))
        again = read_zarr(folder / "d.zarr")
    assert_same(again, buffer)
    assert again.arrays["low"].tobytes() == buffer.arrays["low"].tobytes()


def test_what_videos_lost_is_told(store: Path) -> None:
    target = store.parent / "out"
    done = convert(store, target, ConvertOptions(fps=10))
    assert set(done.losses) == {"image", "wrist"}
    config = DATASET_FORMATS.get("lerobot")(path=str(target))  # type: ignore[call-arg]
    again = config.load(store.parent / "cache").arrays["image"]
    difference = again.astype(float) - make_buffer().arrays["image"]
    # Our reader decodes the very frames that were measured.
    assert done.losses["image"].mean == pytest.approx(np.abs(difference).mean())
    assert done.losses["image"].largest == np.abs(difference).max()
    report = json.loads(json.dumps(done.to_dict(), allow_nan=False))
    assert report["image_loss"]["image"]["largest"] == done.losses["image"].largest
    assert report["arrays"]["keypoint"] == {"shape": [4, 2], "dtype": "float32"}
    assert (report["episodes"], report["steps"], report["fps"]) == (3, 15, 10)
    assert not convert(store, store.parent / "out.hdf5").losses


def test_images_of_floats_become_uint8(tmp_path: Path) -> None:
    buffer = make_buffer()
    floats = buffer.arrays | {"image": buffer.arrays["image"].astype(np.float32)}
    import zarr

    write_zarr(tmp_path / "in.zarr", buffer)
    root = zarr.open_group(str(tmp_path / "in.zarr"), mode="r+")
    del root["data/image"]
    root.create_array("data/image", data=floats["image"])
    convert(tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert_same(read_zarr(tmp_path / "out.zarr"), buffer)


# -- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["out.zarr", "out.hdf5", "out"])
def test_cameras_that_hold_no_images_are_left_out(store: Path, target: str) -> None:
    odd = {
        "depth": np.full((15, 16, 24, 1), 2000, np.uint16),
        "share": np.full((15, 16, 24, 3), 0.5, np.float32),
    }
    data = zarr.open_group(store / "data", mode="r+")
    for key, values in odd.items():
        data.create_array(key, data=values)
    with pytest.warns(UserWarning, match="left out") as caught:
        found = convert(store, store.parent / target, ConvertOptions(fps=10))
    said = " ".join(str(warning.message) for warning in caught)
    assert ("data/depth has uint16 (16, 24, 1) per step, as depth" in said) == (target == "out")
    assert "data/share: no value exceeds 0.5" in said
    kept = set() if target == "out" else {"depth"}
    assert set(found.shapes) == set(make_buffer().arrays) | kept
    # What is asked for by name is not left out.
    for options in ({"obs_keys": ["state", "depth"]}, {"rename": {"depth": "d"}}):
        with pytest.raises(InputError, match="depth is depth and left out: zarr and HDF5 can hold"):
            convert(store, store.parent / "other", ConvertOptions(**options, fps=10))


def test_a_damaged_camera_is_not_left_out(store: Path) -> None:
    chunk = next(file for file in (store / "data" / "image").rglob("*") if file.name[0].isdigit())
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(InputError, match="data/image"):
        convert(store, store.parent / "out.zarr")


def test_names_decide_the_format() -> None:
    for name, expected in (
        ("a.zarr", "zarr"),
        ("a.zarr.zip", "zarr"),
        ("a.hdf5", "robomimic"),
        ("a.H5", "robomimic"),
        ("a", "lerobot"),
        ("a.v3", "lerobot"),
    ):
        assert target_format(Path(name)) == expected


def test_formats_can_be_named(store: Path, tmp_path: Path) -> None:
    options = ConvertOptions(source_format="zarr", target_format="robomimic")
    done = convert(store, tmp_path / "data", options)
    assert (done.source_format, done.target_format) == ("zarr", "robomimic")
    assert convert(tmp_path / "data", tmp_path / "b.zarr").source_format == "robomimic"
    assert_same(read_zarr(tmp_path / "b.zarr"), make_buffer())


def test_keys_are_chosen_and_renamed(store: Path, tmp_path: Path) -> None:
    options = ConvertOptions(
        obs_keys=["image", "state"], rename={"image": "top"}, action_key="keypoint"
    )
    with pytest.raises(InputError, match="action has rank 3"):
        convert(store, tmp_path / "out.zarr", options)
    options = ConvertOptions(
        obs_keys=["image", "state"], rename={"image": "top"}, action_key="flags"
    )
    convert(store, tmp_path / "out.zarr", options)
    arrays = read_zarr(tmp_path / "out.zarr").arrays
    assert set(arrays) == {"action", "top", "state"}
    np.testing.assert_array_equal(arrays["action"], make_buffer().arrays["flags"])
    np.testing.assert_array_equal(arrays["top"], make_buffer().arrays["image"])
    # By default all but the action, whatever it is called.
    with pytest.warns(UserWarning, match="data/action is left out, because data/flags becomes"):
        convert(store, tmp_path / "other.zarr", ConvertOptions(action_key="flags"))
    others = set(make_buffer().arrays) - {"flags"}
    assert set(read_zarr(tmp_path / "other.zarr").arrays) == others


def test_demos_are_chosen(demos: Path, tmp_path: Path) -> None:
    whole = make_buffer((3,) * 12, images=False)
    convert(demos, tmp_path / "some.zarr", ConvertOptions(filter_key="some"))
    assert_same(read_zarr(tmp_path / "some.zarr"), whole.select_episodes([2, 10]))
    convert(demos, tmp_path / "first.zarr", ConvertOptions(max_episodes=3))
    assert_same(read_zarr(tmp_path / "first.zarr"), whole.select_episodes(range(3)))


def test_rate_and_environment_of_demos_are_kept(demos: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # absolute actions are no matter of a conversion
        convert(demos, tmp_path / "out")
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["fps"] == 20
    convert(demos, tmp_path / "again.hdf5")
    assert read_env_args(tmp_path / "again.hdf5") == ENV_ARGS
    convert(tmp_path / "out", tmp_path / "back.hdf5")
    back = read_env_args(tmp_path / "back.hdf5")
    assert back["env_name"] == "unknown" and back["env_kwargs"] == {"control_freq": 20}
    convert(demos, tmp_path / "other", ConvertOptions(fps=5))
    assert json.loads((tmp_path / "other/meta/info.json").read_text())["fps"] == 5
    assert convert(demos, tmp_path / "slow.hdf5", ConvertOptions(fps=5)).fps == 5
    assert read_env_args(tmp_path / "slow.hdf5") == ENV_ARGS | {"env_kwargs": {"control_freq": 5}}


def test_several_files_become_one(demos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "several"
    folder.mkdir()
    for name in ("a.hdf5", "b.hdf5"):
        shutil.copy(demos, folder / name)
    found = convert(folder, tmp_path / "one.zarr", ConvertOptions(source_format="several"))
    assert found.n_steps == 2 * RobomimicConfig(path=str(demos)).load().n_steps


def test_metres_of_one_channel_are_left_out(tmp_path: Path) -> None:
    buffer = make_buffer((5, 9), images=False)
    depth = np.random.default_rng(0).uniform(1, 25, (14, 20, 30, 1)).astype(np.float32)
    arrays = {"state": buffer.arrays["state"], "action": buffer.arrays["action"]}
    path = tmp_path / "in.zarr"
    write_zarr(path, ReplayBuffer(arrays, buffer.episode_ends))
    zarr.open_group(str(path), mode="a").create_array("data/d", data=depth)
    with pytest.warns(UserWarning, match="data/d.* distances"):
        convert(path, path.with_suffix(".hdf5"))
    read = RobomimicConfig(path=str(path.with_suffix(".hdf5"))).load()
    assert list(read.arrays) == ["action", "state"]


@pytest.mark.parametrize("rate", ["fast", True, -1, None])
def test_a_rate_that_is_none(tmp_path: Path, rate: Any) -> None:
    env_args = ENV_ARGS | {"env_kwargs": {"control_freq": rate}}
    write_robomimic(tmp_path / "in.hdf5", make_buffer(images=False), env_args=env_args)
    with pytest.raises(InputError, match="does not say how many steps per second"):
        convert(tmp_path / "in.hdf5", tmp_path / "out")


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("in.zarr", {}, "in.zarr exists already: remove it or choose another name"),
        ("in.zarr/out.hdf5", {}, "is inside .*in.zarr: choose another place"),
        ("out", {}, "does not say how many steps per second it holds, .*give --fps"),
        ("out", {"fps": -1}, "fps is -1; expected steps per second"),
        ("out", {"fps": float("nan")}, "fps is nan"),
        ("out", {"fps": 5, "crf": 99}, "crf is 99"),
        ("out.hdf5", {"obs_keys": ["stat"]}, "no array data/stat: did you mean 'state'"),
        ("out.hdf5", {"rename": {"stat": "s"}}, "names 'stat', .*did you mean 'state'"),
        ("out.hdf5", {"action_key": "actions"}, "no array data/actions: did you mean 'action'"),
        ("out.hdf5", {"filter_key": "train"}, "--filter-key does not fit: .* read as zarr"),
        ("out.hdf5", {"source_format": "robomimic"}, "in.zarr: is no regular file"),
        ("out.hdf5", {"source_format": "lerobot"}, "no meta/info.json, so this is no LeRobot"),
        ("out.hdf5", {"source_format": "hdf5"}, "unknown dataset format 'hdf5'"),
        ("out.hdf5", {"target_format": "hdf5"}, "unknown dataset format 'hdf5'"),
    ],
)
def test_one_message_and_nothing_is_left(
    store: Path, target: str, options: dict[str, Any], message: str
) -> None:
    before = sorted(store.parent.rglob("*"))
    with pytest.raises(InputError, match=message):
        convert(store, store.parent / target, ConvertOptions(**options))
    assert sorted(store.parent.rglob("*")) == before


def test_a_source_of_no_known_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        convert(tmp_path / "absent", tmp_path / "out.zarr")
    (tmp_path / "text").write_text("text")
    with pytest.raises(InputError, match="not a dataset of a known format"):
        convert(tmp_path / "text", tmp_path / "out.zarr")


def test_an_interruption_leaves_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> Conversion:
        caches = list(store.parent.glob(".tmp-images-*"))
        assert len(caches) == 1 and list(caches[0].iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(RobomimicConfig, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        convert(store, store.parent / "new" / ".." / "out.hdf5")
    left = {path.name for path in store.parent.iterdir()}
    assert left <= {"in.zarr", "new"}


# -- killed, and two at once ----------------------------------------------------------------------

WAITING = """
import os, sys
from pathlib import Path
from lfm_policy.data.images import video_writer
from lfm_policy.data.tools import convert as module
from lfm_policy.data.zarr import store as zarr_store
def stop(*arguments, **options):
    os.write(int(os.environ["READY"]), b"x")
    sys.stdin.readline()
    raise SystemExit(0)
zarr_store._write = stop
video_writer.VideoWriter.write = stop
module.convert(sys.argv[1], sys.argv[2], module.ConvertOptions(fps=10))
"""


def in_the_middle(source: Path, target: Path) -> subprocess.Popen[bytes]:
    """Return a process that has read the source, and is writing the target."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(source), str(target)],
        stdin=subprocess.PIPE,
        pass_fds=(writing,),
        env={**os.environ, "READY": str(writing)},
    )
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    return process


@pytest.mark.parametrize("name", ["out.zarr", "out.zarr.zip", "lerobot"])
def test_the_next_conversion_removes_what_a_killed_one_left(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    process = in_the_middle(store, tmp_path / "new" / name)
    with pytest.raises(InputError, match=f"{name}: process {process.pid} on .* is writing it now"):
        convert(store, tmp_path / "new" / name, ConvertOptions(fps=10))
    process.kill()
    process.communicate()
    left = [path.name for path in (tmp_path / "new").iterdir() if path.name.startswith(".tmp-")]
    # Images and the target; a zip is made later than its name.
    assert len(left) == (1 if name.endswith(".zip") else 2)
    convert(store, tmp_path / "new" / "other.hdf5")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["other.hdf5"]
    assert len(caplog.messages) == len(left)
    assert all(f"removed, process {process.pid} on" in message for message in caplog.messages)


def tasks_of(path: Path, name: str) -> list[str]:
    config = DATASET_FORMATS.get(name)(path=str(path), tasks=["*"])
    if name == "zarr":
        config = replace(config, obs_keys=["state"])
    return shown_tasks(config.load())


@pytest.mark.parametrize("names", permutations(["a.zarr", "b.hdf5", "c"]))
def test_tasks_survive_all_formats(names: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"action": rng.normal(size=(9, 2)), "state": rng.normal(size=(9, 3))}
    buffer, shown = ReplayBuffer(arrays, np.array([2, 5, 9])), ["pour", "fold", "pour"]
    write_zarr(tmp_path / "first.zarr", buffer, tasks=shown)
    for source, target in pairwise(["first.zarr", *names]):
        done = convert(tmp_path / source, tmp_path / target, ConvertOptions(fps=3))
        assert "task" not in done.shapes and "task_index" not in done.shapes
        assert tasks_of(done.target, done.target_format) == shown
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*task")  # nothing of tasks is left out
        done = convert(tmp_path / names[-1], tmp_path / "d", ConvertOptions(fps=3, task="both"))
    assert "task_index" not in done.shapes
    assert tasks_of(done.target, "lerobot") == ["both"] * 3
    # One task of all is kept, too.
    convert(tmp_path / "d", tmp_path / "e.zarr", ConvertOptions())
    assert tasks_of(tmp_path / "e.zarr", "zarr") == ["both"] * 3
    convert(tmp_path / "e.zarr", tmp_path / "f", ConvertOptions(max_episodes=1, fps=3))
    assert tasks_of(tmp_path / "f", "lerobot") == ["both"]


def test_what_is_called_like_tasks_is_an_observation_all_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {key: rng.normal(size=(9, 2)) for key in ("action", "state", "task")}
    buffer = ReplayBuffer(arrays, np.array([2, 5, 9]))
    write_zarr(tmp_path / "named.zarr", buffer, tasks=["pour", "fold", "pour"])
    write_zarr(tmp_path / "plain.zarr", buffer)
    for name, shown in (("named", ["pour", "fold", "pour"]), ("plain", [])):
        target = tmp_path / f"{name}.hdf5"
        done = convert(tmp_path / f"{name}.zarr", target, ConvertOptions(rename={"task": "goal"}))
        assert set(done.shapes) == {"action", "state", "goal"}
        assert RobomimicConfig(path=str(target)).episode_tasks() == shown
    chosen = ConvertOptions(rename={"state": "task"}, obs_keys=["state"])
    convert(tmp_path / "named.zarr", tmp_path / "b.hdf5", chosen)
    kept = RobomimicConfig(path=str(tmp_path / "b.hdf5")).episode_tasks()
    assert kept == ["pour", "fold", "pour"]


def test_a_task_without_a_name_is_a_demonstration(tmp_path: Path) -> None:
    arrays = {"action": np.ones((9, 2)), "state": np.arange(18.0).reshape(9, 2)}
    buffer = ReplayBuffer(arrays, np.array([2, 5, 9]))
    write_zarr(tmp_path / "a.zarr", buffer, tasks=["push", "", "push"])
    convert(tmp_path / "a.zarr", tmp_path / "b", ConvertOptions(fps=3))
    assert tasks_of(tmp_path / "b", "lerobot") == ["push", "demonstration", "push"]
    with pytest.raises(InputError, match="task is empty"):
        convert(tmp_path / "a.zarr", tmp_path / "c", ConvertOptions(fps=3, task=""))


def test_tasks_that_have_no_name_are_called_by_their_number(tmp_path: Path) -> None:
    arrays = {"action": np.ones((9, 2)), "state": np.arange(18.0).reshape(9, 2)}
    write_zarr(
        tmp_path / "a.zarr", ReplayBuffer(arrays, np.array([2, 5, 9])), tasks=["a", "b", "a"]
    )
    group = zarr.open_group(tmp_path / "a.zarr", mode="a")
    group["data/task_index"][2:5] = 2
    for name in ("b", "b.hdf5", "b.zarr"):
        done = convert(tmp_path / "a.zarr", tmp_path / name, ConvertOptions(fps=3))
        assert tasks_of(done.target, done.target_format) == ["a", "2", "a"]
    first = convert(tmp_path / "a.zarr", tmp_path / "c", ConvertOptions(fps=3, max_episodes=2))
    assert tasks_of(first.target, "lerobot") == ["a", "2"]


def test_tasks_of_some_demos_alone_are_kept(tmp_path: Path) -> None:
    arrays = {"action": np.ones((9, 2)), "state": np.arange(18.0).reshape(9, 2)}
    write_robomimic(tmp_path / "a.hdf5", ReplayBuffer(arrays, np.array([2, 5, 9])))
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["data/demo_1"].attrs["task"] = "fold"
    done = convert(tmp_path / "a.hdf5", tmp_path / "b", ConvertOptions(fps=3))
    assert tasks_of(done.target, "lerobot") == ["demonstration", "fold", "demonstration"]


def test_what_lerobot_says_of_robot_and_numbers_is_kept(tmp_path: Path) -> None:
    arrays = {"action": np.ones((9, 2)), "state": np.arange(27.0).reshape(9, 3)}
    buffer = ReplayBuffer(arrays, np.array([2, 9]))
    said = {"action": {"motors": ["x", "y"]}, "state": ["a", "b", "c"]}
    write_lerobot(tmp_path / "a", buffer, fps=10, robot_type="so100", meanings=said)
    convert(tmp_path / "a", tmp_path / "b", ConvertOptions(rename={"observation.state": "joints"}))
    info = json.loads((tmp_path / "b/meta/info.json").read_text())
    assert info["robot_type"] == "so100"
    assert info["features"]["action"]["names"] == {"motors": ["x", "y"]}
    assert info["features"]["observation.joints"]["names"] == ["a", "b", "c"]
    assert info["features"]["index"]["names"] is None
    info["features"]["action"]["names"] = ["one of two"]  # which says nothing of two numbers
    (tmp_path / "b/meta/info.json").write_text(json.dumps(info))
    convert(tmp_path / "b", tmp_path / "c")
    names = json.loads((tmp_path / "c/meta/info.json").read_text())["features"]
    assert names["action"]["names"] is None
    assert names["observation.joints"]["names"] == ["a", "b", "c"]


def test_another_rate_than_the_source_says_is_said(tmp_path: Path) -> None:
    arrays = {"action": np.ones((9, 2)), "state": np.arange(27.0).reshape(9, 3)}
    write_lerobot(tmp_path / "a", ReplayBuffer(arrays, np.array([9])), fps=10)
    with pytest.warns(UserWarning, match="says 10 steps per second, and --fps 20 is written"):
        done = convert(tmp_path / "a", tmp_path / "b", ConvertOptions(fps=20))
    assert done.fps == 20


class Plain(DatasetConfig):
    """The least that a format of a plugin has to be."""

    name: str = option("plain", "dataset format", choices=["plain"])
    path: str = option("", "where")

    def load(self, image_cache: Any = None, *, quiet: bool = True) -> ReplayBuffer:
        arrays = {"action": np.ones((4, 2)), "state": np.arange(8.0).reshape(4, 2)}
        return ReplayBuffer(arrays, np.array([4]))


def test_a_format_that_says_nothing_of_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASET_FORMATS._entries, "plain", checked_options(Plain))
    (tmp_path / "mine").write_text("")
    done = convert(tmp_path / "mine", tmp_path / "a.zarr", ConvertOptions(source_format="plain"))
    assert done.n_steps == 4
