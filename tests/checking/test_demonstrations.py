"""Which episodes are checked, and the instants in them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import h5py
import numpy as np
import pytest

from lfm_policy import InputError, load_policy
from lfm_policy.checking.demonstrations import (
    HELD_OUT,
    OTHER,
    TRAINING,
    UNKNOWN,
    Instants,
    changed_dataset,
    choose,
    instants_of,
    load_demonstrations,
    options_for,
    training_sample,
)
from lfm_policy.data.dataset import build_datasets
from lfm_policy.data.dataset_config import WriteOptions
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.policy import Policy
from lfm_runtime.policy.spec import DataSpec

from .conftest import HORIZON, N_ACTION, N_OBS, KnownPolicy


@pytest.fixture
def policy(small_run: Path) -> Policy:
    return load_policy(small_run)


def test_instants(instants: Instants) -> None:
    # Episodes of 11 steps, chunks of 3 executed actions.
    assert instants.step[:4].tolist() == [0, 3, 6, 9] and len(instants) == 16
    assert instants.obs_steps[0].tolist() == [0, 0] and instants.obs_steps[5].tolist() == [13, 14]
    # Index 1 of a chunk belongs to the newest observation; beyond the end the last is repeated.
    assert instants.demonstrated[1, :, 0].tolist() == [2, 3, 4, 5, 6, 7]
    assert instants.demonstrated[3, :, 0].tolist() == [8, 9, 10, 10, 10, 10]
    assert instants.there[1].tolist() == [False, True, True, True, True, True]
    assert instants.executed[1].tolist() == [False, True, True, True, False, False]
    assert instants.there[3].tolist() == [False, True, True, False, False, False]
    assert np.isnan(instants.before[0, 0]) and instants.before[5, 0] == 12
    assert instants.started.tolist() == [False, True, True, True] * 4


def test_trained_instants_are_windows_of_the_training(buffer: ReplayBuffer) -> None:
    from lfm_policy.data.windows import WindowIndex

    instants = instants_of(buffer, np.arange(4), KnownPolicy())
    index = WindowIndex(buffer.episode_ends, N_OBS, HORIZON, N_ACTION)
    windows = {tuple(row) for row in index.indices.tolist()}
    action = buffer.arrays["action"][:, 0]
    known = {tuple(action[list(row)]) for row in windows}
    found = [tuple(chunk) in known for chunk in instants.demonstrated[..., 0].tolist()]
    assert found == instants.trained.tolist()
    assert 0 < sum(found) < len(found)


def test_held_out_episodes_are_those_of_the_run(policy: Policy) -> None:
    found = load_demonstrations("run", policy, policy.config)
    config = policy.config
    horizons = config.policy.n_obs_steps, config.policy.horizon, config.policy.n_action_steps
    bundle = build_datasets(config.dataset, *horizons)
    assert found.kind == HELD_OUT
    assert found.checked.tolist() == bundle.validation_episodes.tolist()
    assert found.reference.tolist() == bundle.train_episodes.tolist()
    assert "1 held-out episodes of" in found.remark
    assert set(training_sample(found, 3, 0)) <= set(found.reference)


def test_no_held_out_episodes_is_said_loudly(policy: Policy) -> None:
    config = replace(policy.config, dataset=replace(policy.config.dataset, validation_ratio=0.0))
    found = load_demonstrations("run", policy, config)
    assert found.kind == TRAINING and "TRAINING episodes" in found.remark
    assert len(found.checked) == 6 and not len(training_sample(found, 3, 0))


def test_other_data(policy: Policy, small_zarr: Path, tmp_path: Path) -> None:
    same = load_demonstrations("run", policy, policy.config, data=str(small_zarr))
    assert same.kind == HELD_OUT
    buffer = policy.config.dataset.load()
    target = tmp_path / "fewer.zarr"
    write_zarr(target, buffer.select_episodes(range(4)))
    found = load_demonstrations("run", policy, policy.config, data=str(target))
    assert found.kind == OTHER and found.checked.tolist() == [0, 1, 2, 3]
    fewer = choose(found, 2, seed=0)
    assert len(fewer.checked) == 2
    assert sorted([*fewer.checked, *fewer.reference]) == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*actions range")
def test_data_of_another_format(policy: Policy, small_zarr: Path, tmp_path: Path) -> None:
    from lfm_policy.data.tools.convert import ConvertOptions, convert

    target = tmp_path / "small.hdf5"
    convert(small_zarr, target, ConvertOptions(), quiet=True)
    found = load_demonstrations("run", policy, policy.config, data=str(target))
    # The same numbers, so that the held-out episodes are known.
    assert found.kind == HELD_OUT and found.buffer.source == str(target)


def test_data_that_has_changed(policy: Policy, small_zarr: Path, tmp_path: Path) -> None:
    target = tmp_path / "grown.zarr"
    write_zarr(target, policy.config.dataset.load().select_episodes(range(5)))
    config = replace(policy.config, dataset=replace(policy.config.dataset, path=str(target)))
    found = load_demonstrations("run", policy, config)
    assert found.kind == UNKNOWN and "has changed since the training" in found.remark


def test_overrides_choose_what_is_read(policy: Policy, small_zarr: Path) -> None:
    fewer = ["dataset.max_episodes=4"]
    for data in (None, str(small_zarr)):
        found = load_demonstrations("run", policy, policy.config, data=data, overrides=fewer)
        assert found.kind == OTHER and found.buffer.n_episodes == 4
    for overrides, message in (
        (["training.total_steps=3"], "training.total_steps=3': expected an option of dataset"),
        (["max_episodes=4"], "expected an option of dataset"),
        (["dataset.max_episode=4"], "unknown key 'dataset.max_episode'"),
    ):
        with pytest.raises(InputError, match=message):
            load_demonstrations("run", policy, policy.config, overrides=overrides)
    with pytest.raises(InputError, match="in memory"):
        buffer = policy.config.dataset.load()
        load_demonstrations("run", policy, policy.config, data=buffer, overrides=fewer)


def test_missing_data(policy: Policy) -> None:
    config = replace(policy.config, dataset=replace(policy.config.dataset, path="/nowhere.zarr"))
    with pytest.raises(InputError, match=r"not at '/nowhere.zarr'.*--data PATH"):
        load_demonstrations("run", policy, config)
    config = replace(policy.config, dataset=replace(policy.config.dataset, path="moved.zarr"))
    tried = f"not at 'moved.zarr' .*tried {Path.cwd() / 'moved.zarr'}: started in another folder"
    with pytest.raises(InputError, match=tried):
        load_demonstrations("run", policy, config)
    with pytest.raises(InputError, match="no such file or folder"):
        load_demonstrations("run", policy, config, data="/nowhere.zarr")


def test_data_that_does_not_fit(policy: Policy, small_zarr: Path, tmp_path: Path) -> None:
    buffer = policy.config.dataset.load()
    arrays = {**buffer.arrays, "action": np.zeros((buffer.n_steps, 3), np.float32)}
    target = tmp_path / "other.zarr"
    write_zarr(target, replace(buffer, arrays=arrays))
    with pytest.raises(InputError, match=r"action has shape \(3,\) per step, expected \(2,\)"):
        load_demonstrations("run", policy, policy.config, data=str(target))
    shutil.rmtree(target)
    del arrays["pose"]
    write_zarr(target, replace(buffer, arrays=arrays))
    with pytest.raises(InputError, match="no array data/pose"):
        load_demonstrations("run", policy, policy.config, data=str(target))


def stored(format_name: str, folder: Path) -> Path:
    """Write demonstrations of joints, an episode of each task."""
    lengths, generator = (12, 9), np.random.default_rng(0)
    arrays = {
        key: generator.normal(size=(sum(lengths), size)).astype(np.float32)
        for key, size in (("action", 2), ("joints", 3))
    }
    path = folder / {"robomimic": "demos.hdf5", "lerobot": "demos"}.get(format_name, "demos.zarr")
    buffer = ReplayBuffer(arrays, np.cumsum(lengths))
    DATASET_FORMATS.get(format_name).write(path, buffer, WriteOptions(fps=10))
    return path


def seeing(shapes: dict[str, tuple[int, ...]], tasks: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(spec=DataSpec(shapes, 2, tasks=tasks))


@pytest.mark.parametrize(
    ("format_name", "key"),
    [
        *(("zarr", "joints"), ("robomimic", "joints"), ("lerobot", "joints")),
        ("lerobot", "observation.joints"),
    ],
)
def test_data_of_another_format_are_read_by_the_names_that_the_policy_knows(
    format_name: str, key: str, tmp_path: Path
) -> None:
    path = stored(format_name, tmp_path)
    buffer = options_for(str(path), seeing({key: (3,)}), None).load()
    assert list(buffer.arrays) == ["action", key]


@pytest.mark.filterwarnings("ignore")
def test_tasks_are_read_by_their_names(tmp_path: Path) -> None:
    path = stored("robomimic", tmp_path)
    with h5py.File(path, "r+") as file:
        for demo, task in zip(("demo_0", "demo_1"), ("stack", "fold"), strict=True):
            file[f"data/{demo}"].attrs["task"] = task
    policy = seeing({"joints": (3,), "task": (2,)}, ("fold", "stack"))
    buffer = options_for(str(path), policy, None).load()
    assert buffer.arrays["task"][[0, -1]].tolist() == [[0, 1], [1, 0]]
    assert buffer.tasks == ("fold", "stack")


def test_a_filter_key_of_the_training_chooses_demos_where_a_file_has_it(tmp_path: Path) -> None:
    path, other = stored("robomimic", tmp_path), tmp_path / "later.hdf5"
    shutil.copy(path, other)
    with h5py.File(path, "r+") as file:
        file["mask/train"] = np.array(["demo_1"], "S")
    options = DATASET_FORMATS.get("robomimic")(path="gone.hdf5", filter_key="train")
    policy, config = seeing({"joints": (3,)}), cast(Any, SimpleNamespace(dataset=options))
    for data, lengths in ((path, [9]), (other, [12, 9])):
        buffer = options_for(str(data), policy, config).load()
        assert buffer.episode_lengths.tolist() == lengths
    with h5py.File(path, "r+") as file:
        file["mask/valid"] = np.array(["demo_0"], "S")
    valid = changed_dataset(options_for(str(path), policy, config), ["dataset.filter_key=valid"])
    assert valid.load().episode_lengths.tolist() == [12]
    with pytest.raises(InputError, match="no filter key mask/train: .*filter_key=null reads all"):
        replace(options, path=str(other)).load()
