"""Formats say which task an episode shows: robomimic, LeRobot, zarr, and several files as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from lfm_policy.data.dataset_config import WriteOptions
from lfm_policy.data.lerobot.format import LeRobotConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.tasks.several import SeveralConfig
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError, OptionError

LENGTHS = (4, 3, 5)
SHOWN = ("push", "reach", "push")
NUMBERS = np.repeat([1, 0, 1], LENGTHS)
"""By the table ("reach", "push")."""


def buffer(less: float = 0.0) -> ReplayBuffer:
    ends = np.cumsum(LENGTHS, dtype=np.int64)
    values = np.random.default_rng(0).uniform(-1, 1, (ends[-1], 2)).astype(np.float32)
    values = values * (1 - less)
    return ReplayBuffer({"action": values, "state": values[:, :1]}, ends)


def robomimic(path: Path, shown: tuple[str, ...] = SHOWN) -> RobomimicConfig:
    file = path.with_suffix(".hdf5")
    write_robomimic(file, buffer())
    with h5py.File(file, "a") as opened:
        for number, task in enumerate(shown):
            opened[f"data/demo_{number}"].attrs["task"] = task
    return RobomimicConfig(path=str(file), tasks=["*"])


def lerobot(path: Path) -> LeRobotConfig:
    named = buffer()
    arrays = {"action": named.arrays["action"], "observation.state": named.arrays["state"]}
    LeRobotConfig.write(path, ReplayBuffer(arrays, named.episode_ends), WriteOptions(fps=10.0))
    for file in path.glob("data/*/*.parquet"):
        table = pq.read_table(file)
        column = table.schema.names.index("task_index")
        pq.write_table(table.set_column(column, "task_index", pa.array(NUMBERS)), file)
    names = pa.table({"task_index": pa.array([0, 1]), "task": ["reach", "push"]})
    pq.write_table(names, path / "meta" / "tasks.parquet")
    return LeRobotConfig(path=str(path), tasks=["*"])


def zarr_store(path: Path) -> ZarrConfig:
    file = path.with_suffix(".zarr")
    write_zarr(file, buffer())
    group = zarr.open_group(file, mode="a")
    group.create_array("data/task_index", data=NUMBERS)
    group.attrs["tasks"] = ["reach", "push"]
    return ZarrConfig(path=str(file), obs_keys=["state"], tasks=["*"])


@pytest.mark.parametrize("written", [robomimic, lerobot, zarr_store])
def test_episodes_are_told_their_tasks_and_chosen_by_them(
    written: Callable[[Path], RobomimicConfig | LeRobotConfig | ZarrConfig], tmp_path: Path
) -> None:
    config = written(tmp_path / "demos")
    loaded = config.load()
    numbers = loaded.arrays["task"][loaded.episode_starts].argmax(1)
    assert tuple(loaded.tasks[n] for n in numbers) == SHOWN
    assert loaded.unscaled["task"] == (0, 1)
    only = type(config)(**{**vars(config), "tasks": ["reach"]}).load()
    assert (only.tasks, only.n_steps) == (("reach",), LENGTHS[1])
    begin, end = np.cumsum(LENGTHS)[:2]
    np.testing.assert_array_equal(only.arrays["action"], buffer().arrays["action"][begin:end])
    first = type(config)(**{**vars(config), "tasks": ["push"], "max_episodes": 1}).load()
    assert first.n_steps == LENGTHS[0]
    with pytest.raises(InputError, match="did you mean 'reach'"):
        type(config)(**{**vars(config), "tasks": ["raech"]}).load()


@pytest.mark.parametrize("written", [robomimic, lerobot, zarr_store])
def test_without_the_option_nothing_is_told(
    written: Callable[[Path], RobomimicConfig | LeRobotConfig | ZarrConfig], tmp_path: Path
) -> None:
    config = written(tmp_path / "demos")
    loaded = type(config)(**{**vars(config), "tasks": []}).load()
    assert "task" not in loaded.arrays
    assert loaded.tasks == ()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("tasks", [["reach"], ["push"], ["*"]])
def test_only_frames_of_chosen_tasks_are_kept_and_stay_in_their_file(
    tasks: list[str], channels: int, tmp_path: Path
) -> None:
    config = zarr_store(tmp_path / "demos")
    shape = (sum(LENGTHS), 8, 8, channels)
    frames = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    group = zarr.open_group(config.path, mode="a")
    group.create_array("data/camera", data=frames, chunks=(2, 8, 8, channels))
    options = {**vars(config), "tasks": tasks, "obs_keys": ["camera", "state"]}
    cameras = ZarrConfig(**options).load(tmp_path / "cache").arrays["camera"]
    shown = np.repeat([tasks == ["*"] or task in tasks for task in SHOWN], LENGTHS)
    assert isinstance(cameras, np.memmap)
    np.testing.assert_array_equal(cameras, frames[shown])
    first = ZarrConfig(**options | {"max_episodes": 1}).load(tmp_path / "cache").arrays["camera"]
    np.testing.assert_array_equal(first, frames[shown][: len(first)])
    assert len(first) == LENGTHS[1 if tasks == ["reach"] else 0]


def test_data_that_name_no_task_say_so(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", buffer())
    write_zarr(tmp_path / "a.zarr", buffer())
    with pytest.raises(InputError, match=r"nothing says which task .* has no attribute 'task'"):
        RobomimicConfig(path=str(tmp_path / "a.hdf5"), tasks=["*"]).load()
    with pytest.raises(InputError, match=r"neither data/task_index nor data/task"):
        ZarrConfig(path=str(tmp_path / "a.zarr"), obs_keys=["state"], tasks=["*"]).load()


# -- several datasets -----------------------------------------------------------------------------


def test_several_files_are_one_dataset_whose_tasks_are_called_as_they_are(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "b.hdf5", buffer(0.5))
    write_zarr(tmp_path / "a.zarr", buffer())
    robomimic(tmp_path / "c")
    (tmp_path / "notes.txt").write_text("what lies beside is left alone")
    each = {"obs_keys": ["state"], "max_episodes": 2}
    loaded = SeveralConfig(path=str(tmp_path), tasks=["*"], each=each).load()
    numbers = loaded.arrays["task"][loaded.episode_starts].argmax(1)
    assert [loaded.tasks[n] for n in numbers] == ["a", "a", "b", "b", "push", "reach"]
    assert loaded.n_steps == 3 * sum(LENGTHS[:2])
    chosen = SeveralConfig(path=str(tmp_path / "*.*"), tasks=["reach", "b"], each=each)
    (tmp_path / "notes.txt").unlink()
    assert chosen.load().tasks == ("reach", "b")
    untold = SeveralConfig(path=str(tmp_path), each=each).load()
    np.testing.assert_array_equal(untold.arrays["action"], loaded.arrays["action"])
    assert set(untold.arrays) == {"action", "state"}


@pytest.mark.parametrize("tasks", [[], ["*"], ["b"], ["a", "c"]])
@pytest.mark.parametrize("max_episodes", [None, 4])
def test_frames_of_several_datasets_stay_in_a_file(
    tasks: list[str], max_episodes: int | None, tmp_path: Path
) -> None:
    rng, episodes = np.random.default_rng(0), []
    for name in "abc":
        frames = rng.integers(0, 256, (sum(LENGTHS), 8, 8, 3), dtype=np.uint8)
        arrays = {**buffer().arrays, "camera": frames}
        write_zarr(tmp_path / f"{name}.zarr", ReplayBuffer(arrays, np.cumsum(LENGTHS)))
        if tasks in ([], ["*"]) or name in tasks:
            episodes += np.split(frames, np.cumsum(LENGTHS)[:-1])
    each = {"obs_keys": ["camera", "state"]}
    options = {"tasks": tasks, "each": each, "max_episodes": max_episodes}
    config = SeveralConfig(path=str(tmp_path / "?.zarr"), **options)
    for _ in range(2):  # the second time out of the cache
        loaded = config.load(tmp_path / "cache")
        found = loaded.arrays["camera"]
        assert isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, np.concatenate(episodes[:max_episodes]))
    assert loaded.n_episodes == len(episodes[:max_episodes])
    assert len(loaded.fingerprint()) == 64


def test_several_datasets_have_to_fit_one_another(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", buffer())
    ends = np.array([4])
    write_robomimic(
        tmp_path / "b.hdf5",
        ReplayBuffer({"action": np.zeros((4, 3)), "state": np.ones((4, 1))}, ends),
    )
    with pytest.raises(InputError, match=r"b\.hdf5: has .*'action': \(3,\).*expected .*\(2,\)"):
        SeveralConfig(path=str(tmp_path)).load()


def test_options_of_each_are_checked_under_their_key(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5", buffer())
    with pytest.raises(OptionError, match="each") as error:
        SeveralConfig(path=str(tmp_path), each={"obs_key": ["state"]}).load()
    assert error.value.key[0] == "each"
    with pytest.raises(OptionError, match="names path"):
        SeveralConfig(path="x", each={"path": "y"})
    with pytest.raises(InputError, match="found 0 datasets"):
        SeveralConfig(path=str(tmp_path / "*.zarr")).load()
