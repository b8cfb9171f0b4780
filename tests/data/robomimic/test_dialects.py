"""Files of other writers than robomimic, and arrays that no policy can observe."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.tools.convert import convert
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

LENGTHS = {"demo_0": 30, "demo_3": 25, "demo_12": 35}
ISAAC = {"env_name": "Isaac-Stack-Cube-Franka-IK-Rel-Mimic-v0", "type": 2}


def read_env_args(path: Path) -> dict[str, Any]:
    with RobomimicFile(path) as file:
        return file.env_args()


def values_of(name: str, length: int) -> np.ndarray:
    rng = np.random.default_rng([length, *name.encode()])
    return np.cumsum(rng.uniform(-0.01, 0.01, (length, 3)), axis=0).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of which nothing but demos, actions and observations is there."""
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        for demo, length in LENGTHS.items():
            for name in ("actions", "obs/position"):
                file[f"data/{demo}/{name}"] = values_of(name, length)
    return path


@pytest.fixture
def isaac(tmp_path: Path) -> Path:
    """A file as Isaac Lab's recorders write it."""
    path = tmp_path / "isaac.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"], data.attrs["env_args"] = 0, json.dumps(ISAAC)
        for number, (demo, length) in enumerate(LENGTHS.items()):
            group = data.create_group(demo)
            group.attrs["num_samples"], group.attrs["seed"] = length, number
            group.attrs["success"] = True
            for name in (
                *("actions", "processed_actions", "obs/eef_pos", "obs/joint_pos"),
                *("obs/datagen_info/eef_pose/franka", "obs/datagen_info/object_pose/cube"),
                "states/articulation/robot/joint_position",
            ):
                group.create_dataset(name, data=values_of(name, length), compression="gzip")
            images = np.full((length, 6, 8, 3), number, np.uint8)
            group.create_dataset("obs/table_cam", data=images, compression="gzip")
            group["initial_state/rigid_object/cube/root_pose"] = np.zeros((1, 7), np.float32)
    return path


def load(path: Path, **options: Any) -> Any:
    return RobomimicConfig(path=str(path), **options).load(path.parent / "cache")


def joined(name: str) -> np.ndarray:
    return np.concatenate([values_of(name, length) for length in LENGTHS.values()])


def test_nothing_but_actions_and_observations_is_needed(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer = load(path)
    assert buffer.episode_ends.tolist() == [30, 55, 90]
    np.testing.assert_array_equal(buffer.arrays["action"], joined("actions"))
    np.testing.assert_array_equal(buffer.arrays["position"], joined("obs/position"))
    assert convert(path, path.with_name("out.zarr")).fps is None


def test_isaac_lab(isaac: Path) -> None:
    message = (
        "left out: datagen_info (is a group: name its arrays, such as datagen_info/eef_pose/franka"
    )
    with pytest.warns(UserWarning, match=re.escape(message)):
        buffer = load(isaac)
    assert set(buffer.arrays) == {"action", "eef_pos", "joint_pos", "table_cam"}
    np.testing.assert_array_equal(buffer.arrays["eef_pos"], joined("obs/eef_pos"))
    assert buffer.arrays["table_cam"][-1].max() == 2
    key = "datagen_info/object_pose/cube"
    named = load(isaac, obs_keys=[key], rename={key: "cube"}, action_key="processed_actions")
    np.testing.assert_array_equal(named.arrays["cube"], joined(f"obs/{key}"))
    np.testing.assert_array_equal(named.arrays["action"], joined("processed_actions"))
    with pytest.raises(InputError, match=r"env_args'\] has no 'env_kwargs'; expected an object"):
        read_env_args(isaac)
    with pytest.raises(InputError, match="demo_0 has a group instead of .*eef_pose/franka, datag"):
        load(isaac, obs_keys=["datagen_info"])


def test_isaac_lab_is_inspected_and_converted(isaac: Path) -> None:
    found = inspect_dataset(isaac)
    assert found.to_dict()["episodes"] == 3 and found.opened.fps is None
    (note,) = found.notes
    assert note.startswith(f"{isaac}: data.attrs['env_args'] has no 'env_kwargs'; expected an obje")
    assert set(found.ranges) == {
        *("action", "eef_pos", "joint_pos"),
        *("datagen_info/eef_pose/franka", "datagen_info/object_pose/cube"),
    }
    assert set(found.cameras) == {"table_cam"}
    with pytest.warns(UserWarning, match="has no 'env_kwargs'.*: this description is left out"):
        convert(isaac, isaac.with_name("out.hdf5"))
    np.testing.assert_array_equal(
        load(isaac.with_name("out.hdf5")).arrays["eef_pos"], joined("obs/eef_pos")
    )


def test_observations_in_one_array(isaac: Path) -> None:
    with h5py.File(isaac, "a") as file:
        for demo, length in LENGTHS.items():
            del file[f"data/{demo}/obs"]
            file[f"data/{demo}/obs"] = values_of("obs", length)
    for options in ({}, {"obs_keys": ["obs"]}):
        buffer = load(isaac, **options)
        assert set(buffer.arrays) == {"action", "obs"}
        np.testing.assert_array_equal(buffer.arrays["obs"], joined("obs"))
    assert set(inspect_dataset(isaac).ranges) == {"action", "obs"}
    with pytest.raises(InputError, match="demo_0 has no obs/joint_pos"):
        load(isaac, obs_keys=["joint_pos"])


def test_training_on_isaac_lab_and_what_evaluation_says(
    isaac: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = isaac.with_name("run")
    options = {
        "name": "isaac",
        "dataset": {
            "name": "robomimic",
            "path": str(isaac),
            "obs_keys": ["eef_pos", "datagen_info/object_pose/cube"],
        },
        "policy": {"n_obs_steps": 1, "horizon": 4, "n_action_steps": 4},
        "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 1},
        "training": {"total_steps": 2, "batch_size": 4, "warmup_steps": 1, "num_threads": 1},
    }
    config = isaac.with_name("isaac.yaml")
    config.write_text(json.dumps(options), encoding="utf-8")
    assert main(["train", str(config), "--output", str(run), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "1", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert (
        "the checkpoint names no environment (env.id is empty), and "
        f"{isaac}: data.attrs['env_args'] has no 'env_kwargs'; expected an object: arguments of "
        "the environment; give one with --env"
    ) in " ".join(said.split())


# -- arrays that are no observations ------------------------------------------------------------


def _odd(group: h5py.Group, kind: str, length: int) -> None:
    if kind == "null":
        group["odd"] = h5py.Empty("f4")
    elif kind == "scalar":
        group["odd"] = 3.0
    elif kind == "array type":
        group.create_dataset("odd", (length,), np.dtype(("f4", (7,))))
    elif kind == "time":
        space = h5py.h5s.create_simple((length,))
        h5py.h5d.create(group.id, b"odd", h5py.h5t.UNIX_D32LE, space)
    elif kind == "reference":
        group["odd"] = np.array([group.ref] * length, h5py.ref_dtype)
    elif kind == "ragged":
        rows = group.create_dataset("odd", (length,), h5py.vlen_dtype("f4"))
        for row in range(length):
            rows[row] = np.arange(row)
    elif kind == "events":
        group["odd"] = np.zeros((length // 3, 2))
    elif kind == "codec":
        group.create_dataset("odd", data=np.ones((length, 3)), chunks=(5, 3), compression="lzf")
    else:
        group["odd"] = {
            "complex": np.zeros(length, np.complex64),
            "compound": np.zeros(length, [("a", "f4"), ("b", "i4")]),
            "text": ["pick up"] * length,
            "fixed text": np.array([b"pick up"] * length),
            "opaque": np.zeros(length, "V5"),
            "empty": np.zeros((length, 0)),
            "volume": np.zeros((length, 2, 2, 2, 2)),
        }[kind]


ODD = {
    "null": "has no time axis",
    "scalar": "has no time axis",
    "array type": "has dtype",
    "time": "has a type that NumPy does not know",
    "reference": "has dtype object",
    "ragged": "has dtype object",
    "events": r"has 10 rows, where demo_0 has 30 steps|has 10 steps, expected 30",
    "codec": r"is compressed with HDF5 filter 32015 \(zstd\), which is not installed: pip install "
    "hdf5plugin reads it",
    "complex": "has dtype complex64",
    "compound": "has dtype",
    "text": "has dtype object",
    "fixed text": r"has dtype \|S7",
    "opaque": r"has dtype \|V5",
    "empty": "holds no values",
    "volume": r"has shape \(2, 2, 2, 2\) per step|has rank 5",
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_array_stands_in_nobodys_way(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(path, "a") as file:
        for demo, length in LENGTHS.items():
            _odd(file[f"data/{demo}/obs"], kind, length)
    if kind == "codec":
        # What lzf has written, called zstd: number and name of a filter are in the file.
        content = path.read_bytes()
        assert content.count(b"\x00\x7d\x08\x00\x01\x00") == 3
        path.write_bytes(content.replace(b"\x00\x7d\x08\x00\x01\x00", b"\x0f\x7d\x08\x00\x01\x00"))
        monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # as if it were not installed
    reason = ODD[kind]
    with pytest.warns(UserWarning, match=rf"left out: odd \(({reason})"):
        buffer = load(path)
    assert set(buffer.arrays) == {"action", "position"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(load(path, obs_keys=["position"]).arrays) == {"action", "position"}
    with pytest.raises(
        InputError, match=rf"demo.hdf5: demo_0: (obs/)?odd ({reason}|has shape .*holds no v)"
    ):
        load(path, obs_keys=["odd"])
    found = inspect_dataset(path)
    assert set(found.ranges) == {"action", "position"} and found.opened.stored["odd"].unusable
    (finding,) = [f for f in found.warnings if f.kind == "unusable_array"]
    assert re.search(rf"odd is not usable: .*({reason})|it holds no values", finding.message)


def test_a_damaged_array_does_not_keep_inspect_from_the_others(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for demo, length in LENGTHS.items():
            velocities = np.zeros((length, 2))
            velocities[3] = np.nan if demo == "demo_3" else 0
            file[f"data/{demo}/obs/velocity"] = velocities
    with pytest.raises(InputError, match="demo_3: obs/velocity holds nan in step 3"):
        load(path)
    found = inspect_dataset(path)
    assert set(found.ranges) == {"action", "position"}
    (finding,) = [f for f in found.warnings if f.kind == "unusable_array"]
    assert "velocity is not usable" in finding.message and "nan in step 3" in finding.message


def test_a_file_with_nothing_to_observe(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for demo, length in LENGTHS.items():
            del file[f"data/{demo}/obs/position"]
            _odd(file[f"data/{demo}/obs"], "complex", length)
    with pytest.raises(InputError, match=r"neither low-dim.* only: odd \(has dtype complex64"):
        load(path)
    with pytest.raises(InputError, match="nothing that a policy could observe: .*odd has dtype co"):
        inspect_dataset(path)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "?", "i1", "u2", "i8", np.longdouble])
def test_any_number_is_read(path: Path, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    expected = [rng.integers(0, 2, (length, 2)).astype(dtype) for length in LENGTHS.values()]
    with h5py.File(path, "a") as file:
        for demo, values in zip(LENGTHS, expected, strict=True):
            file[f"data/{demo}/obs/number"] = values
    found = load(path).arrays["number"]
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, np.concatenate(expected))


def test_hdf5plugin_is_used_where_it_is_installed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfm_policy.data.hdf5 import array as hdf5_filters

    with h5py.File(path, "a") as file:
        for demo, length in LENGTHS.items():
            file[f"data/{demo}/obs"].create_dataset(
                "packed", data=values_of("packed", length), chunks=(5, 3), compression="lzf"
            )
    installed = path.with_name("installed")
    installed.mkdir()
    (installed / "hdf5plugin.py").write_text("registered = True\n")
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.delitem(sys.modules, "hdf5plugin", raising=False)
    # HDF5 has the filter once the package was imported, and not before.
    monkeypatch.setattr(
        hdf5_filters.h5py.h5z,
        "filter_avail",
        lambda number: getattr(sys.modules.get("hdf5plugin"), "registered", False),
    )
    np.testing.assert_array_equal(load(path).arrays["packed"], joined("packed"))


def test_a_raw_recording_points_to_extract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        for demo, length in LENGTHS.items():
            file[f"data/{demo}/states"] = np.zeros((length, 32))
            file[f"data/{demo}/actions"] = np.zeros((length, 7))
        file["data"].attrs["env"], file["data"].attrs["env_info"] = "Lift", "{}"
    command = f"lfm-policy extract {path} {tmp_path / 'low_dim.hdf5'}"
    for use in (load, inspect_dataset, lambda p: convert(p, tmp_path / "out.zarr")):
        with pytest.raises(InputError, match=re.escape(command)):
            use(path)
    assert main(["inspect", str(path)]) == 2
    assert command in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("observed", "action"), [("observations", "action"), ("observation", "action")]
)
def test_a_file_of_a_single_episode_says_how_to_go_on(
    tmp_path: Path, observed: str, action: str
) -> None:
    path = tmp_path / "episode_0.hdf5"
    with h5py.File(path, "w") as file:
        file[f"{observed}/qpos"], file[action] = np.zeros((9, 14)), np.zeros((9, 14))
        file[f"{observed}/images/top"] = np.zeros((9, 6, 8, 3), np.uint8)
    for use in (load, inspect_dataset, lambda p: convert(p, tmp_path / "out.zarr")):
        with pytest.raises(InputError, match=r"no group data.*single episode.*LeRobot.*zarr") as e:
            use(path)
        assert str(path) in str(e.value)
    with pytest.raises(InputError, match="holds 1 dataset, such as episode_0.hdf5: name one"):
        inspect_dataset(tmp_path)
    with h5py.File(path, "a") as file:
        del file[action]
    with pytest.raises(InputError, match=r"no group data .*obs/<key>$"):
        load(path)


def test_demos_that_failed_are_counted(isaac: Path) -> None:
    assert not [note for note in inspect_dataset(isaac).notes if "success" in note]
    marks = {"demo_0": np.array([True]), "demo_3": False, "demo_12": np.zeros(500)}
    with h5py.File(isaac, "a") as file:
        for demo, mark in marks.items():
            file[f"data/{demo}"].attrs["success"] = mark
    (note,) = [note for note in inspect_dataset(isaac).notes if "success" in note]
    assert note.startswith("1 of 3 demos are marked success = False (demo_3): they are read like")
    assert "mask/<name>" in note and "dataset.filter_key" in note
    assert load(isaac, obs_keys=["eef_pos"]).n_episodes == 3
