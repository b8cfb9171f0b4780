"""The dataset configuration ``robomimic``: demos, keys, options, and everything that is wrong."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.robomimic.demos import unknown_env_args
from lfm_policy.data.robomimic.format import ActionRangeWarning, RobomimicConfig
from lfm_policy.errors import InputError

ENV_ARGS = {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {}}
LENGTHS = {"demo_0": 4, "demo_2": 3, "demo_10": 5, "demo_1": 2}
ORDER = ["demo_0", "demo_1", "demo_2", "demo_10"]


def demo_arrays(name: str) -> dict[str, np.ndarray]:
    number, length = int(name.removeprefix("demo_")), LENGTHS[name]
    rng = np.random.default_rng(number)
    return {
        "actions": rng.uniform(-1, 1, (length, 7)),
        "obs/object": rng.normal(size=(length, 10)),
        "obs/gripper": rng.normal(size=length).astype(np.float32),
        "obs/agentview_image": rng.integers(0, 256, (length, 6, 8, 3), dtype=np.uint8),
        "states": rng.normal(size=(length, 32)),
        "rewards": np.zeros(length),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(LENGTHS.values())
        data.attrs["env_args"] = json.dumps(ENV_ARGS)
        for name, length in LENGTHS.items():
            demo = data.create_group(name)
            demo.attrs["num_samples"] = length
            for key, values in demo_arrays(name).items():
                demo[key] = values
        file["mask/train"] = np.array(["demo_10", "demo_0"], dtype="S")
        file["mask/valid"] = ["demo_2"]  # text of variable length
    return path


def change(path: Path, edit: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "a") as file:
        edit(file)


def replace(key: str, values: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[key]
        file[key] = values

    return edit


def joined(key: str, demos: list[str] = ORDER) -> np.ndarray:
    return np.concatenate([demo_arrays(demo)[key] for demo in demos])


def load(path: Path, **options: Any) -> Any:
    return RobomimicConfig(path=str(path), **options).load(path.parent / "cache")


# -- what is read -------------------------------------------------------------------------------


def test_is_found_by_name() -> None:
    assert DATASET_FORMATS.get("robomimic") is RobomimicConfig
    assert RobomimicConfig().name == "robomimic"


def test_demos_are_read_in_numeric_order(path: Path) -> None:
    buffer = load(path)
    assert list(buffer.arrays) == ["action", "agentview_image", "gripper", "object"]
    assert buffer.episode_ends.tolist() == [4, 6, 9, 14]
    np.testing.assert_array_equal(buffer.arrays["action"], joined("actions"))
    np.testing.assert_array_equal(buffer.arrays["object"], joined("obs/object"))
    np.testing.assert_array_equal(buffer.arrays["agentview_image"], joined("obs/agentview_image"))
    assert buffer.arrays["gripper"].shape == (14, 1)
    np.testing.assert_array_equal(buffer.arrays["gripper"][:, 0], joined("obs/gripper"))
    assert buffer.arrays["object"].dtype == np.float64
    assert buffer.arrays["gripper"].dtype == np.float32
    assert isinstance(buffer.arrays["agentview_image"], np.memmap)


def test_keys_are_chosen_and_renamed(path: Path) -> None:
    rename = {"agentview_image": "image", "gripper": "object"}
    buffer = load(path, obs_keys=["gripper", "agentview_image"], rename=rename)
    assert list(buffer.arrays) == ["action", "object", "image"]
    np.testing.assert_array_equal(buffer.arrays["object"][:, 0], joined("obs/gripper"))
    assert list(load(path, rename={"object": "o"}).arrays)[-1] == "o"


def test_filter_key_and_number_of_demos(path: Path) -> None:
    train = load(path, filter_key="train", obs_keys=["object", "agentview_image"])
    assert train.episode_ends.tolist() == [4, 9]
    for key in ("object", "agentview_image"):
        expected = joined(f"obs/{key}", ["demo_0", "demo_10"])
        np.testing.assert_array_equal(train.arrays[key], expected)
    assert load(path, filter_key="valid").episode_ends.tolist() == [3]
    assert load(path, max_episodes=2).episode_ends.tolist() == [4, 6]
    assert load(path, filter_key="train", max_episodes=1).episode_ends.tolist() == [4]


def test_another_action(path: Path) -> None:
    def edit(file: h5py.File) -> None:
        for name in LENGTHS:
            file[f"data/{name}/actions_abs"] = demo_arrays(name)["actions"][:, :3]

    change(path, edit)
    assert load(path, action_key="actions_abs").arrays["action"].shape == (14, 3)


def test_a_changed_file_is_read_again(path: Path) -> None:
    load(path)
    white = np.full((5, 6, 8, 3), 255, np.uint8)
    change(path, replace("data/demo_10/obs/agentview_image", white))
    np.testing.assert_array_equal(load(path).arrays["agentview_image"][9:], white)


def test_byte_order_and_chunks_do_not_matter(path: Path) -> None:
    def edit(file: h5py.File) -> None:
        for name in LENGTHS:
            values = demo_arrays(name)
            del file[f"data/{name}/obs/object"], file[f"data/{name}/obs/agentview_image"]
            file[f"data/{name}/obs/object"] = values["obs/object"].astype(">f8")
            images = values["obs/agentview_image"]
            options: dict[str, Any] = {"chunks": (2, 6, 4, 3), "compression": "gzip"}
            file.create_dataset(f"data/{name}/obs/agentview_image", data=images, **options)

    change(path, edit)
    buffer = load(path)
    assert buffer.arrays["object"].dtype.isnative
    np.testing.assert_array_equal(buffer.arrays["object"], joined("obs/object"))
    np.testing.assert_array_equal(buffer.arrays["agentview_image"], joined("obs/agentview_image"))


def test_large_images_are_read_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lfm_policy.data.robomimic import file as robomimic_file

    monkeypatch.setattr(robomimic_file, "_PART_BYTES", 2 * 6 * 8 * 3)
    with robomimic_file.RobomimicFile(path) as file:
        parts = list(file.parts("demo_10", "obs/agentview_image"))
    assert [len(part) for part in parts] == [2, 2, 1]
    np.testing.assert_array_equal(
        np.concatenate(parts), demo_arrays("demo_10")["obs/agentview_image"]
    )


def test_actions_outside_the_usual_range_are_a_warning(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path)
    change(path, replace("data/demo_1/actions", np.full((2, 7), -3.5)))
    with pytest.warns(ActionRangeWarning, match=r"actions range from -3.5 to 0.9\d+; .*absolute"):
        load(path)
    for described in (json.dumps(unknown_env_args(20)), "damaged", None):
        change(path, lambda file: file["data"].attrs.__delitem__("env_args"))
        if described is not None:
            change(path, attribute("data", "env_args", described))
        with warnings.catch_warnings():  # a robot of one's own takes what it takes
            warnings.simplefilter("error")
            load(path)


def test_what_no_policy_observes_is_left_out_unless_named(path: Path) -> None:
    def edit(file: h5py.File) -> None:
        for name, length in LENGTHS.items():
            file[f"data/{name}/obs/depth"] = np.zeros((length, 6, 8, 1), np.float32)
            file[f"data/{name}/obs/text"] = ["a"] * length
            file.create_group(f"data/{name}/obs/nested")

    change(path, edit)
    message = (
        "demo.hdf5: left out: depth (holds images of float32 of one channel; dataset.depth={depth: "
        "[nearest, farthest]}, in its units, reads it as depth), nested (is an empty group), text ("
        "has dtype object, expected numbers); name obs_keys to choose"
    )
    with pytest.warns(UserWarning, match=re.escape(message)):
        buffer = load(path)
    assert list(buffer.arrays) == ["action", "agentview_image", "gripper", "object"]
    for key, message in (
        ("depth", "obs/depth: no value exceeds 0; .*distances are read where dataset.depth names"),
        ("text", "demo_0: obs/text has dtype object; expected numbers"),
        ("nested", "demo_0 has a group instead of the array obs/nested"),
    ):
        with pytest.raises(InputError, match=message):
            load(path, obs_keys=[key])


# -- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "has no path: set dataset.path to a robomimic HDF5 file"),
        ({"obs_keys": ["object", "object"]}, "names a key twice"),
        ({"obs_keys": ["object"], "rename": {"objekt": "o"}}, "names 'objekt', .*'object'"),
        ({"rename": {"objekt": "o"}}, "names 'objekt', .*did you mean 'object'"),
        ({"rename": {"object": "action"}}, "none of them empty or 'action'"),
        ({"obs_keys": ["objet"]}, "demo_0 has no obs/objet: did you mean 'object'.*holds: agentv"),
        ({"action_key": "action"}, "demo_0 has no action: did you mean 'actions'.*holds: actions,"),
        ({"filter_key": "trian"}, "no filter key mask/trian: did you mean 'train'"),
        ({"max_episodes": 0}, "max_episodes is 0"),
    ],
)
def test_options_that_do_not_fit(path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(**{"path": path, **options}) if options.get("path") != "" else RobomimicConfig().load()


def delete(key: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(key)


def attribute(key: str, name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[key].attrs.__setitem__(name, value)


def empty_demo(file: h5py.File) -> None:
    file["data/demo_3/actions"] = np.zeros((0, 7))
    file["data/demo_3"].attrs["num_samples"] = 0


def raw_recording(file: h5py.File) -> None:
    for name in LENGTHS:
        del file[f"data/{name}/obs"]
    del file["data"].attrs["env_args"]
    file["data"].attrs["env"] = "Lift"


def linked(file: h5py.File) -> None:
    del file["data/demo_2/obs/object"]
    file["data/demo_2/obs/object"] = h5py.ExternalLink("other.hdf5", "/secret")


def external(file: h5py.File) -> None:
    del file["data/demo_2/obs/object"]
    file["data/demo_2/obs"].create_dataset(
        "object", (3, 10), "f8", external=[("other.bin", 0, 240)]
    )


def virtual(file: h5py.File) -> None:
    del file["data/demo_2/obs/object"]
    layout = h5py.VirtualLayout((3, 10), "f8")
    layout[:] = h5py.VirtualSource("other.hdf5", "secret", (3, 10))
    file["data/demo_2/obs"].create_virtual_dataset("object", layout)


def never_written(file: h5py.File) -> None:
    del file["data/demo_2/obs/object"]
    file["data/demo_2/obs"].create_dataset("object", (3, 10), "f8")


def absurdly_long(file: h5py.File) -> None:
    del file["data/demo_2/actions"]
    array = file["data/demo_2"].create_dataset("actions", (10**9, 7), "f8", chunks=(10, 7))
    array[:1] = 0
    file["data/demo_2"].attrs["num_samples"] = 10**9


NAN = np.zeros((3, 10))
NAN[1, 4] = np.nan


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (delete("data"), r"there is no group data \(found: mask\); expected robomimic's layout"),
        (replace("data", [1]), "an array was found instead of the group data"),
        (lambda f: [f["data"].__delitem__(d) for d in LENGTHS], "the group data holds no demos"),
        (lambda f: f.__setitem__("data/extra", [1]), "array .* instead of the group data/extra"),
        (delete("data/demo_2/actions"), r"demo_2 has no actions: .*\(it holds: obs, rewards, st"),
        (replace("data/demo_2/actions", np.zeros((2, 7))), "2 actions, but num_samples is 3"),
        (replace("data/demo_2/actions", 3.0), "demo_2: actions has no time axis"),
        (replace("data/demo_2/actions", np.zeros((3, 2, 2))), "demo_2: actions has rank 3"),
        (
            replace("data/demo_2/actions", np.zeros((3, 6))),
            r"demo_2: actions is .*\(6,\).*\(7,\).*: remove the",
        ),
        (attribute("data/demo_2", "num_samples", 4), "demo_2 has 3 actions, .*num_samples is 4"),
        (
            attribute("data/demo_2", "num_samples", "x"),
            "demo_2 has num_samples 'x'; expected an in",
        ),
        (
            replace("data/demo_2/obs/object", np.zeros((2, 10))),
            "obs/object has 2 steps, expected 3, as many as actions: remove the demo",
        ),
        (delete("data/demo_2/obs/object"), r"demo_2 has no obs/object: .*\(it holds: agentview_im"),
        (
            replace("data/demo_2/obs/object", np.zeros((3, 9))),
            r"obs/object is float64 \(9,\) per step, expected float64 \(10,\), as in demo_0",
        ),
        (
            replace("data/demo_2/obs/object", np.zeros((3, 10), np.float32)),
            r"demo_2: obs/object is float32 \(10,\) per step, expected float64 \(10,\)",
        ),
        (
            replace("data/demo_2/obs/agentview_image", np.zeros((3, 6, 8, 4), np.uint8)),
            r"demo_2: obs/agentview_image is uint8 \(6, 8, 4\) per step, expected .*\(6, 8, 3\)",
        ),
        (replace("data/demo_2/obs/object", NAN), "demo_2: obs/object holds nan in step 1"),
        (replace("data/demo_2/actions", np.full((3, 7), 1e39)), "actions holds 1e.39 in step 0"),
        (empty_demo, r"demo_3 is empty \(actions holds no steps\): remove .*dataset\.filter_key"),
        (replace("mask/train", np.array(["demo_7"], "S")), "mask/train lists 'demo_7', which is"),
        (replace("mask/train", np.array([], "S6")), "mask/train lists no demo"),
        (replace("mask/train", [1, 2]), "mask/train has dtype int64; expected names of demos"),
        (replace("mask/train", "demo_0"), "mask/train is no list"),
        (raw_recording, "demo_0 has no observations under obs .*by replaying its states"),
        (delete("data/demo_0/obs"), "demo_0 has no observations under obs .*by replaying its st"),
        (linked, "demo_2/obs/object is a link into another file"),
        (external, "demo_2: obs/object is stored in other files"),
        (virtual, "demo_2: obs/object is stored in other files"),
        (never_written, "demo_2: obs/object promises .*, but no values were ever written"),
        (absurdly_long, "demo_2: actions promises 56,000,000,000 bytes"),
    ],
)
def test_one_message_says_what_is_wrong(
    path: Path, edit: Callable[[h5py.File], object], message: str
) -> None:
    change(path, edit)
    with pytest.raises(InputError, match=message) as caught:
        load(path, filter_key="train" if "mask" in message else None)
    assert str(path) in str(caught.value)
    assert not list((path.parent / "cache").glob(".tmp*"))


def test_a_key_that_only_later_demos_lack_is_not_chosen_silently(path: Path) -> None:
    change(path, delete("data/demo_10/obs/gripper"))
    with pytest.raises(InputError, match="demo_10 has no obs/gripper"):
        load(path)
    assert load(path, filter_key="valid").n_steps == 3


def test_no_hdf5_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; expected robomimic's HDF5"):
        load(tmp_path / "absent.hdf5")
    with pytest.raises(InputError, match="is no regular file"):
        load(tmp_path)
    (tmp_path / "text.hdf5").write_text("text")
    with pytest.raises(InputError, match=r"text.hdf5: cannot be opened as HDF5 \(OSError"):
        load(tmp_path / "text.hdf5")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
def test_a_truncated_file(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="cannot be opened as HDF5 .*truncated"):
        load(path)


def test_a_damaged_chunk(path: Path) -> None:
    images = demo_arrays("demo_2")["obs/agentview_image"]
    name = "data/demo_2/obs/agentview_image"

    def edit(file: h5py.File) -> tuple[int, int]:
        del file[name]
        array = file.create_dataset(name, data=images, compression="gzip", chunks=True)
        info = array.id.get_chunk_info(0)
        return info.byte_offset, info.size

    with h5py.File(path, "a") as file:
        offset, size = edit(file)
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"demo_2: obs/agentview_image cannot be read"):
        load(path)
    assert list((path.parent / "cache").iterdir()) == []
