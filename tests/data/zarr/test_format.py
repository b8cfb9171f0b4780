"""The dataset configuration ``zarr``: choice of keys, derivation, options."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from lfm_policy.data.derived import DERIVATIONS
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tools.convert import convert
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset
from lfm_policy.proposal import ProposalOptions, propose


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.uniform(0, 512, (12, 2)).astype(np.float32),
        "state": rng.uniform(0, 6, (12, 5)).astype(np.float32),
        "extra": rng.normal(size=(12, 3, 2)),
        "volume": np.zeros((12, 4, 4, 5), np.float32),
        "torque": rng.normal(size=(12, 7)),
    }
    path = tmp_path_factory.mktemp("data") / "demo.zarr"
    write_zarr(path, ReplayBuffer(arrays=arrays, episode_ends=np.array([5, 12])))
    return str(path)


def test_is_found_by_name() -> None:
    assert DATASET_FORMATS.get("zarr") is ZarrConfig
    assert ZarrConfig().name == "zarr"


def test_loads_the_keys_in_the_order_asked(path: str) -> None:
    buffer = ZarrConfig(path=path, obs_keys=["torque", "extra"]).load()
    assert list(buffer.arrays) == ["action", "torque", "extra"]
    assert buffer.arrays["extra"].shape == (12, 3, 2)


def test_a_number_per_step_needs_no_axis_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {key: rng.normal(size=(12, 1)).astype(np.float32) for key in ("action", "gripper")}
    buffer = ReplayBuffer(arrays, np.array([5, 12]))
    write_zarr(tmp_path / "columns.zarr", buffer)
    root = zarr.create_group(tmp_path / "plain.zarr", zarr_format=2)
    for key, values in arrays.items():
        root.create_array(f"data/{key}", data=values[:, 0])
    root.create_array("meta/episode_ends", data=buffer.episode_ends)
    configs = [
        ZarrConfig(path=str(tmp_path / f"{name}.zarr"), obs_keys=["gripper"])
        for name in ("columns", "plain")
    ]
    columns, plain = (config.load() for config in configs)
    assert {key: array.shape for key, array in plain.arrays.items()} == {
        "action": (12, 1),
        "gripper": (12, 1),
    }
    assert plain.fingerprint() == columns.fingerprint() == buffer.fingerprint()
    inspection = inspect_dataset(tmp_path / "plain.zarr")
    assert not [f for f in inspection.warnings if f.kind == "unusable_array"]
    assert inspection.buffer.arrays["gripper"].shape == (12, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is left out
        converted = convert(tmp_path / "plain.zarr", tmp_path / "plain.hdf5")
    assert converted.shapes == {"action": (1,), "gripper": (1,)}
    proposal = propose(tmp_path / "plain.zarr", ProposalOptions(device="cpu"))
    assert proposal.config.dataset.obs_keys == ["gripper"]
    assert "- gripper  # 1 number, " in proposal.text


def test_action_key_is_renamed(path: str) -> None:
    buffer = ZarrConfig(path=path, action_key="torque", obs_keys=["state"]).load()
    assert buffer.arrays["action"].shape == (12, 7)
    assert list(buffer.arrays) == ["action", "state"]


def test_derived_observations(path: str) -> None:
    buffer = ZarrConfig(path=path, derive="pusht").load()
    shapes = {key: array.shape for key, array in buffer.arrays.items()}
    assert shapes == {
        "action": (12, 2),
        "agent_pos": (12, 2),
        "block_pose": (12, 4),
        "keypoints": (12, 16),
    }
    assert all(array.dtype == np.float32 for array in buffer.arrays.values())
    some = ZarrConfig(path=path, derive="pusht", obs_keys=["torque", "agent_pos"]).load()
    assert list(some.arrays) == ["action", "torque", "agent_pos"]
    state = ZarrConfig(path=path, obs_keys=["state"]).load().arrays["state"]
    np.testing.assert_array_equal(some.arrays["agent_pos"], state[:, :2])


def test_derived_features_are_the_shared_ones(pusht_zarr: Path) -> None:
    from lfm_envs.pusht_features import state_features

    config = ZarrConfig(path=str(pusht_zarr), max_episodes=3, derive="pusht")
    derived = config.load().arrays
    state = ZarrConfig(path=str(pusht_zarr), max_episodes=3, obs_keys=["state"]).load()
    for step in (0, 17, state.n_steps - 1):
        for key, values in state_features(state.arrays["state"][step]).items():
            np.testing.assert_array_equal(derived[key][step], values)


def test_max_episodes_takes_the_first(path: str) -> None:
    buffer = ZarrConfig(path=path, obs_keys=["state"], max_episodes=1).load()
    assert buffer.episode_ends.tolist() == [5]
    assert len(buffer.arrays["action"]) == 5
    assert ZarrConfig(path=path, obs_keys=["state"], max_episodes=9).load().n_episodes == 2


def test_the_example_of_an_observation_can_be_read(tmp_path: Path) -> None:
    root = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2)
    shapes = {"action": (6, 2), "depth": (6, 4, 5), "joints": (6, 3), "volume": (6, 4, 5, 6)}
    for name, shape in shapes.items():
        kind = np.uint16 if name == "depth" else np.float32
        root.create_array(f"data/{name}", data=np.zeros(shape, kind))
    root.create_array("meta/episode_ends", data=np.array([6]))
    with pytest.raises(InputError, match=r"such as dataset\.obs_keys=\[joints\]"):
        ZarrConfig(path=str(tmp_path / "a.zarr")).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "has no path: set dataset.path .*robomimic's HDF5"),
        ({}, "obs_keys is empty.*holds: action, extra, state, torque, volume"),
        ({"obs_keys": ["stat"]}, "no array data/stat: did you mean 'state'.*stored: action"),
        (
            {"obs_keys": ["agentpos"], "derive": "pusht"},
            "no array data/agentpos: did you mean 'agent_pos'.*derived: agent_pos",
        ),
        ({"obs_keys": ["state"], "action_key": "actions"}, "no array data/actions: .*'action'"),
        ({"obs_keys": ["volume"]}, r"data/volume has rank 4, shape \(12, 4, 4, 5\)"),
        ({"obs_keys": ["state"], "action_key": "extra"}, "action has rank 3"),
    ],
)
def test_what_does_not_fit_the_store(path: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ZarrConfig(**{"path": path, **options}).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"derive": "push"}, "derive is 'push', expected one of pusht .*did you mean 'pusht'"),
        ({"obs_keys": ["action"]}, "the policy would be shown what it has to predict"),
        ({"obs_keys": ["a"], "action_key": "a"}, "the policy would be shown"),
        ({"obs_keys": ["a", "a"]}, "names a key twice"),
        ({"max_episodes": 0}, "max_episodes is 0, expected at least 1"),
        ({"validation_ratio": 1.5}, "validation_ratio is 1.5"),
        ({"split_seed": -1}, "split_seed is -1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ZarrConfig(**options)


def test_state_of_another_shape_cannot_be_derived_from() -> None:
    with pytest.raises(InputError, match=r"state has shape \(4, 3\); expected \(steps, 5\)"):
        DERIVATIONS.get("pusht")({"state": np.zeros((4, 3))})


@pytest.mark.parametrize("name", DERIVATIONS.names())
def test_derivations_give_what_they_declare(name: str) -> None:
    derivation = DERIVATIONS.get(name)
    outputs = derivation({key: np.ones((4, 5), np.float32) for key in derivation.inputs})
    assert tuple(outputs) == derivation.outputs
    assert all(len(array) == 4 for array in outputs.values())
