"""robomimic's files, written demo by demo and at once."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic import demos as robomimic_writer
from lfm_policy.data.robomimic.demos import Demo, DemoRecording, train_valid_masks, write_robomimic
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.errors import InputError

ENV_ARGS = {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {"x": [1, 2]}}
FACTS = {"task": "Lift", "seed": 0}


def read_env_args(path: Path) -> dict[str, Any]:
    with RobomimicFile(path) as file:
        return file.env_args()


def demo_of(number: int, length: int = 5) -> Demo:
    generator = np.random.default_rng(number)
    return Demo(
        actions=generator.uniform(-1, 1, (length, 7)),
        obs={
            "object": generator.normal(size=(length, 10)).astype(np.float32),
            "agentview_image": generator.integers(0, 255, (length, 8, 8, 3), dtype=np.uint8),
        },
        rewards=np.zeros(length),
        dones=np.arange(1, length + 1) // length,
        states=generator.normal(size=(length, 32)),
        model_file=f"<mujoco n='{number}'/>",
        ep_meta='{"lang": "lift"}',
        attributes={"seed": number},
        arrays={"actions_abs": generator.normal(size=(length, 7))},
    )


def test_demos_in_any_order_make_one_file(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    recording = DemoRecording(path, FACTS)
    for number in (7, 2, 5):
        recording.add(number, demo_of(number, length=number))
    recording.skip(3, "the cube fell")
    assert not path.exists()
    assert recording.demos() == [2, 5, 7] and recording.skipped() == [3]
    assert recording.attributes(5)["seed"] == 5

    again = DemoRecording(path, FACTS)
    assert again.demos() == [2, 5, 7] and again.skipped() == [3]
    again.finish(ENV_ARGS, masks={"train": [2, 7], "valid": [5]}, attributes={"date": "today"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["lift.hdf5"]

    with RobomimicFile(path) as file:
        assert file.demos == ("demo_0", "demo_1", "demo_2")
        assert file.filters.select("train") == ("demo_0", "demo_2")
        assert file.filters.select("valid") == ("demo_1",)
        assert file.env_args() == ENV_ARGS
        assert file.lengths(file.demos, "actions") == [2, 5, 7]
        assert file.text("demo_1", "model_file") == "<mujoco n='5'/>"
        assert file.text("demo_1", "ep_meta") == '{"lang": "lift"}'
    with h5py.File(path) as file:
        assert file["data"].attrs["total"] == 14 and file["data"].attrs["date"] == "today"
        assert file["mask/train"].dtype.kind == "S"
        for name, number in (("demo_0", 2), ("demo_1", 5), ("demo_2", 7)):
            group, demo = file[f"data/{name}"], demo_of(number, length=number)
            assert group.attrs["num_samples"] == number and group.attrs["seed"] == number
            np.testing.assert_array_equal(group["actions"], demo.actions)
            np.testing.assert_array_equal(group["states"], demo.states)
            np.testing.assert_array_equal(group["actions_abs"], demo.arrays["actions_abs"])
            assert group["dones"][:].tolist() == demo.dones.tolist()
            for key, values in demo.obs.items():
                np.testing.assert_array_equal(group[f"obs/{key}"], values)
                assert group[f"obs/{key}"].dtype == values.dtype
    buffer = RobomimicConfig(path=str(path), obs_keys=["object"], filter_key="train").load()
    assert buffer.n_episodes == 2 and buffer.n_steps == 9


def test_the_same_demos_make_the_same_values_whatever_their_order(tmp_path: Path) -> None:
    for name, order in (("a.hdf5", (1, 2, 3)), ("b.hdf5", (3, 1, 2))):
        recording = DemoRecording(tmp_path / name, FACTS)
        for number in order:
            recording.add(number, demo_of(number))
        recording.finish(ENV_ARGS, numbers=[1, 3], names={1: "demo_4", 3: "demo_9"})
    with RobomimicFile(tmp_path / "a.hdf5") as a, RobomimicFile(tmp_path / "b.hdf5") as b:
        assert a.demos == b.demos == ("demo_4", "demo_9")
        for demo in a.demos:
            for key in ("actions", "obs/object"):
                info = a.info([demo], key, [5], ranks=(2,))
                np.testing.assert_array_equal(
                    a.read([demo], key, [5], info), b.read([demo], key, [5], info)
                )


def test_a_half_written_demo_is_no_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = DemoRecording(tmp_path / "lift.hdf5", FACTS)
    recording.add(0, demo_of(0))
    broken = replace(demo_of(1), attributes={"seed": object()})
    with pytest.raises(TypeError):
        recording.add(1, broken)
    assert recording.demos() == [0]
    recording.finish(ENV_ARGS)
    with RobomimicFile(tmp_path / "lift.hdf5") as file:
        assert file.demos == ("demo_0",)


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    recording = DemoRecording(path, FACTS)
    assert recording.demos() == recording.skipped() == []
    with pytest.raises(InputError, match="holds no demo"):
        recording.finish(ENV_ARGS)
    assert not list(tmp_path.iterdir())
    recording.skip(1)
    with pytest.raises(InputError, match="recorded with seed 0, now it is 1: continue"):
        DemoRecording(path, FACTS | {"seed": 1})
    with pytest.raises(InputError, match=r"4 obs/object; expected 5"):
        replace(demo_of(0), obs={"object": np.zeros((4, 10))})
    with pytest.raises(InputError, match="states of a demo are not finite"):
        replace(demo_of(0), states=np.full((5, 32), np.nan))
    with pytest.raises(InputError, match="no steps"):
        Demo(np.zeros((0, 7)), {}, np.zeros(0), np.zeros(0))
    recording.add(0, demo_of(0))
    with pytest.raises(InputError, match="env_args has no 'type'"):
        recording.finish({"env_name": "Lift"})
    recording.finish(ENV_ARGS)
    with pytest.raises(InputError, match="exists already"):
        DemoRecording(path, FACTS)


def test_train_and_valid_share_the_demos() -> None:
    masks = train_valid_masks(range(10, 30), ratio=0.1)
    assert len(masks["valid"]) == 2
    assert sorted(masks["train"] + masks["valid"]) == list(range(10, 30))
    assert masks == train_valid_masks(range(10, 30), ratio=0.1)
    assert train_valid_masks([4]) == {"train": [4]}


def test_one_process_records_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.hdf5"
    first, second = DemoRecording(path, {"task": "a"}), DemoRecording(path, {"task": "a"})
    with first.only_recorder():
        with (
            pytest.raises(InputError, match=r"out\.hdf5: process .* is writing it now"),
            second.only_recorder(),
        ):
            pass
        DemoRecording(path, {"task": "a"}).add(0, demo_of(0))  # as its own processes do
    with second.only_recorder():
        assert second.demos() == [0]
    other = DemoRecording(tmp_path / "b.hdf5", {"task": "b"})
    (tmp_path / "new" / "out.hdf5.parts").rename(tmp_path / "b.hdf5.parts")
    with pytest.raises(InputError, match="was recorded with task 'a'"), other.only_recorder():
        pass


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_something_else_at_the_name_of_the_folder(tmp_path: Path, kind: str) -> None:
    parts = tmp_path / "out.hdf5.parts"
    (tmp_path / "elsewhere").mkdir()
    if kind == "link":
        parts.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        parts.touch()
    else:
        os.mkfifo(parts)
    with pytest.raises(InputError, match=r"out\.hdf5\.parts: expected a folder or nothing: remove"):
        DemoRecording(tmp_path / "out.hdf5", {})


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
