"""What a robomimic file says of itself: demos, keys, filter keys, environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfm_policy.data.robomimic.contents import RobomimicContents
from lfm_policy.data.robomimic.file import KeyInfo, RobomimicFile
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.errors import InputError

ENV_ARGS = {
    "env_name": "Square",
    "env_version": "1.4.1",
    "type": 1,
    "env_kwargs": {"control_freq": 20, "controller_configs": {"type": "OSC_POSE"}},
}


def read_env_args(path: Path) -> dict[str, Any]:
    with RobomimicFile(path) as file:
        return file.env_args()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(ENV_ARGS)
        for name, length in (("demo_10", 4), ("demo_9", 3)):
            demo = data.create_group(name)
            demo["actions"] = np.zeros((length, 7), np.float32)
            demo["obs/object"] = np.zeros((length, 14))
            demo["obs/image"] = np.zeros((length, 4, 5, 3), np.uint8)
            demo["rewards"] = np.zeros(length)
        data["demo_9"].attrs["num_samples"] = 3
        file["mask/50_percent"] = np.array(["demo_9"], "S")
    return path


def set_env_args(path: Path, value: Any) -> None:
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = value


def test_summary(path: Path) -> None:
    with RobomimicFile(path) as file:
        assert [(d, file.num_samples(d)) for d in file.demos] == [("demo_9", 3), ("demo_10", 4)]
        assert file.stored("demo_9") == {
            "actions": KeyInfo((7,), np.dtype(np.float32)),
            "obs/image": KeyInfo((4, 5, 3), np.dtype(np.uint8)),
            "obs/object": KeyInfo((14,), np.dtype(np.float64)),
            "rewards": KeyInfo((), np.dtype(np.float64)),
        }
        assert file.filter_keys() == {"50_percent": ("demo_9",)}
        assert file.env_args() == ENV_ARGS


def test_summary_of_a_raw_recording(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "raw.hdf5", "w") as file:
        file["data/demo_1/states"] = np.zeros((5, 32))
        file["data/demo_1/actions"] = np.zeros((5, 7))
        file["data"].attrs["env"] = "Lift"
        file["data"].attrs["env_info"] = "{}"
    contents = RobomimicContents(tmp_path / "raw.hdf5", RobomimicConfig)
    assert contents.stored["action"].shape == (5, 7) and contents.fps is None
    with pytest.raises(InputError, match=r"is absent.*it has env and env_info: .*replaying its"):
        read_env_args(tmp_path / "raw.hdf5")


def test_a_demo_without_arrays(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_group("data/demo_11")
    with pytest.raises(InputError, match="demo_11 holds no arrays"):
        RobomimicContents(path, RobomimicConfig)


@pytest.mark.parametrize("as_stored", [str, lambda text: np.bytes_(text.encode())])
def test_the_environment(path: Path, as_stored: Any) -> None:
    set_env_args(path, as_stored(json.dumps(ENV_ARGS)))
    assert read_env_args(path) == ENV_ARGS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_name": None}, "has env_name None; expected the name of the environment"),
        ({"type": "robosuite"}, "has type 'robosuite'; expected a number; 1 is robosuite"),
        ({"type": True}, "has type True"),
        ({"env_kwargs": []}, r"has env_kwargs \[\]; expected an object"),
        ({"env_version": 1.5}, "has env_version 1.5; expected text"),
    ],
)
def test_a_description_that_does_not_fit(path: Path, changes: dict[str, Any], message: str) -> None:
    set_env_args(path, json.dumps(ENV_ARGS | changes))
    with pytest.raises(InputError, match=message) as caught:
        read_env_args(path)
    assert f"{path}: data.attrs['env_args']" in str(caught.value)
    # Who looks at the data gets them, and is told the same.
    contents = RobomimicContents(path, RobomimicConfig)
    assert contents.fps is None and contents.notes[0].startswith(f"{caught.value}; training")
    assert contents.stored["action"].shape == (7, 7)


@pytest.mark.parametrize("key", ["env_name", "type", "env_kwargs"])
def test_a_description_that_lacks_something(path: Path, key: str) -> None:
    set_env_args(path, json.dumps({k: v for k, v in ENV_ARGS.items() if k != key}))
    with pytest.raises(InputError, match=f"has no '{key}'; expected"):
        read_env_args(path)


@pytest.mark.parametrize(
    ("env_args", "message"),
    [
        ("{", r"data.attrs\['env_args'\] does not parse as JSON .*expected an object"),
        (3, r"data.attrs\['env_args'\] does not parse as JSON .*expected an object"),
        ("[" * 50_000, "does not parse as JSON"),
        ("[]", r"data.attrs\['env_args'\] is list; expected an object"),
        ('{"env_name": "Isaac-Lift-v0", "type": 2}', "has no 'env_kwargs'; expected an object"),
        (None, r"data.attrs\['env_args'\] is absent, expected JSON"),
        (np.zeros(4, "S9"), "does not parse as JSON"),
        ("x" * 2**21, "attribute env_args has 2,097,152 characters; expected at most 1,048,576"),
    ],
)
def test_demos_do_not_depend_on_the_environment(path: Path, env_args: Any, message: str) -> None:
    with h5py.File(path, "a") as file:
        del file["data"].attrs["env_args"]
        if env_args is not None:
            file["data"].attrs["env_args"] = env_args
    buffer = RobomimicConfig(path=str(path)).load(path.parent / "cache")
    assert buffer.episode_ends.tolist() == [3, 7] and set(buffer.arrays) >= {"action", "object"}
    with pytest.raises(InputError, match=message) as caught:
        read_env_args(path)
    assert str(path) in str(caught.value)


def test_filter_keys_are_named_by_who_looks_at_the_file(path: Path) -> None:
    (note,) = RobomimicContents(path, RobomimicConfig).notes
    assert note.startswith("filter keys: 50_percent (1 demo); all demos are read unless dataset.fi")
