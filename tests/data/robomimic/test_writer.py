"""Writing robomimic's HDF5: the layout, and that reading gives back what was written."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic import demos as robomimic_writer
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.robomimic.file import read_env_args
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.errors import InputError

ENV_ARGS = {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {"x": [1, 2]}}


def make_buffer(ends: list[int] = [5, 12]) -> ReplayBuffer:  # noqa: B006
    rng = np.random.default_rng(0)
    n = ends[-1]
    arrays = {
        "action": rng.uniform(-1, 1, (n, 7)).astype(np.float32),
        "object": rng.normal(size=(n, 3)),
        "keypoint": rng.normal(size=(n, 4, 2)).astype(np.float32),
        "camera": rng.integers(0, 256, (n, 6, 5, 3), dtype=np.uint8),
    }
    return ReplayBuffer(arrays, np.array(ends), "made up")


def load(path: Path) -> ReplayBuffer:
    return RobomimicConfig(path=str(path)).load(path.parent / "cache")


def test_layout(tmp_path: Path) -> None:
    path = tmp_path / "new" / "demo.hdf5"
    buffer = make_buffer()
    states = np.random.default_rng(1).normal(size=(12, 9))
    write_robomimic(path, buffer, env_args=ENV_ARGS, states=states)
    with h5py.File(path) as file:
        assert file["data"].attrs["total"] == 12
        assert json.loads(file["data"].attrs["env_args"]) == ENV_ARGS
        assert sorted(file["data"]) == ["demo_0", "demo_1"]
        demo = file["data/demo_1"]
        assert demo.attrs["num_samples"] == 7
        assert sorted(demo) == ["actions", "dones", "obs", "rewards", "states"]
        assert demo["dones"][()].tolist() == [0, 0, 0, 0, 0, 0, 1]
        assert demo["rewards"][()].tolist() == [0.0] * 7
        np.testing.assert_array_equal(demo["states"], states[5:])
        np.testing.assert_array_equal(demo["actions"], buffer.arrays["action"][5:])
        np.testing.assert_array_equal(demo["obs/camera"], buffer.arrays["camera"][5:])
    assert read_env_args(path) == ENV_ARGS
    assert [entry.name for entry in path.parent.iterdir()] == ["demo.hdf5"]


def test_without_an_environment(tmp_path: Path) -> None:
    path = tmp_path / "demo.hdf5"
    write_robomimic(path, make_buffer())
    assert read_env_args(path)["env_name"] == "unknown"
    with h5py.File(path) as file:
        assert "states" not in file["data/demo_0"]


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    dtype=st.sampled_from(["f2", "f4", "f8", ">f8", "i4", "i8", "u1", "?"]),
    image=st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3, 4])),
    seed=st.integers(0, 99),
)
def test_reading_gives_back_what_was_written(
    lengths: list[int], shape: list[int], dtype: str, image: tuple[int, ...], seed: int
) -> None:
    rng, n = np.random.default_rng(seed), sum(lengths)
    arrays = {
        "action": rng.uniform(-1, 1, (n, 2)),
        "low": rng.integers(0, 100, (n, *shape)).astype(dtype),
        "rgb": rng.integers(0, 256, (n, *image), dtype=np.uint8),
    }
    buffer = ReplayBuffer(arrays, np.cumsum(lengths))
    with tempfile.TemporaryDirectory() as folder:
        write_robomimic(Path(folder) / "demo.hdf5", buffer)
        again = load(Path(folder) / "demo.hdf5")
        np.testing.assert_array_equal(again.episode_ends, buffer.episode_ends)
        assert set(again.arrays) == set(arrays)
        for key, values in arrays.items():
            assert again.arrays[key].dtype == values.dtype.newbyteorder("=")
            np.testing.assert_array_equal(again.arrays[key], values)
        assert again.fingerprint() == buffer.fingerprint()


def test_large_images_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robomimic_writer, "_CHUNK_BYTES", 2 * 6 * 5 * 3)
    monkeypatch.setattr(robomimic_writer, "_PART_BYTES", 4 * 6 * 5 * 3)
    buffer = make_buffer()
    write_robomimic(tmp_path / "demo.hdf5", buffer)
    np.testing.assert_array_equal(
        load(tmp_path / "demo.hdf5").arrays["camera"], buffer.arrays["camera"]
    )


def changed(**arrays: Any) -> ReplayBuffer:
    buffer = make_buffer()
    kept = {key: value for key, value in (buffer.arrays | arrays).items() if value is not None}
    return ReplayBuffer(kept, buffer.episode_ends, "made up")


@pytest.mark.parametrize(
    ("buffer", "options", "message"),
    [
        (changed(action=None), {}, "made up: there is no array 'action'"),
        (changed(object=np.full((12, 2), np.nan)), {}, "made up: object holds nan in episode 0"),
        (changed(**{"a/b": np.zeros((12, 2))}), {}, "'a/b' cannot be the name of an HDF5 array"),
        (
            changed(),
            {"states": np.zeros((11, 2))},
            r"states have shape \(11, 2\); expected \(12, n",
        ),
        (changed(), {"env_args": {"env_name": "Lift"}}, "env_args has no 'type'"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, buffer: ReplayBuffer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_robomimic(tmp_path / "demo.hdf5", buffer, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "demo.hdf5").write_text("precious")
    with pytest.raises(InputError, match=r"demo.hdf5 exists already"):
        write_robomimic(tmp_path / "demo.hdf5", make_buffer())
    assert (tmp_path / "demo.hdf5").read_text() == "precious"


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(robomimic_writer, "_write_images", fail)
    with pytest.raises(OSError, match="full"):
        write_robomimic(tmp_path / "demo.hdf5", make_buffer())
    assert list(tmp_path.iterdir()) == []
