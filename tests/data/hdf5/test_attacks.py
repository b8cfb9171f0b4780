"""HDF5 files made to be read wrongly: nothing outside of them is read, nothing absurd taken."""

from __future__ import annotations

import json
import re
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lfm_policy
from lfm_policy.collect.collect import facts_of
from lfm_policy.data.hdf5.array import Hdf5Array
from lfm_policy.data.hdf5.file import Hdf5File
from lfm_policy.data.robomimic.demos import Demo, DemoRecording
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.tools.convert import ConvertOptions, convert
from lfm_policy.data.tools.extract import extract
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

ENV_ARGS = {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {}}
SECRET, SECRET_NUMBER = "TOPSECRET", 4711.5
LENGTH = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file, beside another one that is nobody's business."""
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["names"] = np.array([SECRET] * 3, "S16")
        file["mask/list"] = np.array([SECRET] * 3, "S16")
        for name in ("values", "data/demo_0/actions", "demo/actions", "demo/obs/object"):
            file[name] = np.full((LENGTH, 3), SECRET_NUMBER)
        file["obs/object"] = np.full((LENGTH, 3), SECRET_NUMBER)
        file.attrs["env_args"] = SECRET
        file["data"].attrs["lfm_collect"] = json.dumps({"attempts": SECRET})
    (tmp_path / "other.bin").write_bytes(SECRET.ljust(16).encode() * LENGTH * 3)
    path = tmp_path / "demo.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(ENV_ARGS)
        for number in range(3):
            rng = np.random.default_rng(number)
            for name in ("actions", "obs/object", "obs/position", "states"):
                file[f"data/demo_{number}/{name}"] = rng.uniform(-1, 1, (LENGTH, 3))
            file[f"data/demo_{number}"].attrs["model_file"] = "<mujoco/>"
        file["mask/good"] = np.array(["demo_1"], "S")
    return path


def put(file: h5py.File, name: str, value: Any) -> None:
    if name in file:
        del file[name]
    file[name] = value


# -- how an object can be outside of the file ---------------------------------------------------


def external_link(file: h5py.File, name: str, there: str) -> None:
    put(file, name, h5py.ExternalLink("other.hdf5", there))


def soft_to_external(file: h5py.File, name: str, there: str) -> None:
    file["way"] = h5py.ExternalLink("other.hdf5", there)
    put(file, name, h5py.SoftLink("/way"))


def soft_chain(file: h5py.File, name: str, there: str) -> None:
    file["away"] = h5py.ExternalLink("other.hdf5", "/")
    file["b/c"] = h5py.SoftLink("/away")
    file["b/d"] = h5py.SoftLink(f"c/./{there}")
    put(file, name, h5py.SoftLink("/b/d"))


def link_loop(file: h5py.File, name: str, there: str) -> None:
    file["loop"] = h5py.SoftLink("/back")
    file["back"] = h5py.SoftLink("/loop")
    put(file, name, h5py.SoftLink("/loop"))


def external_storage(file: h5py.File, name: str, there: str) -> None:
    del file[name]
    file.create_dataset(name, (LENGTH, 3), "f8", external=[("other.bin", 0, LENGTH * 24)])


def virtual(file: h5py.File, name: str, there: str) -> None:
    del file[name]
    layout = h5py.VirtualLayout((LENGTH, 3), "f8")
    layout[:] = h5py.VirtualSource("other.hdf5", there, (LENGTH, 3))
    file.create_virtual_dataset(name, layout)


LINKS = (external_link, soft_to_external, soft_chain, link_loop)
STORAGE = (external_storage, virtual)
OUTSIDE = r"link into another file|stored in other files|link that leads through more than 16"


def load(path: Path, **options: Any) -> Any:
    return RobomimicConfig(path=str(path), **options).load(path.parent / "cache")


ENTRIES: dict[str, Callable[[Path], Any]] = {
    "load": load,
    "filter key": lambda path: load(path, filter_key="good"),
    "inspect": inspect_dataset,
    "convert": lambda path: convert(path, path.with_name("out.zarr")),
    "extract": lambda path: extract(path, path.with_name("out.hdf5")),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    ("attack", "name", "there"),
    [
        *((attack, "data/demo_1/actions", "values") for attack in (*LINKS, *STORAGE)),
        *((attack, "data/demo_1", "demo") for attack in LINKS),
        *((attack, "data", "data") for attack in LINKS),
    ],
)
def test_nothing_outside_the_file_is_read(
    path: Path, entry: str, attack: Callable[..., None], name: str, there: str
) -> None:
    with h5py.File(path, "a") as file:
        attack(file, name, there)
    with pytest.raises(InputError, match=OUTSIDE) as caught:
        ENTRIES[entry](path)
    assert str(path) in str(caught.value) and SECRET not in str(caught.value)
    assert {entry.name for entry in path.parent.iterdir()} <= {
        *("demo.hdf5", "other.hdf5", "other.bin", "cache")
    }


@pytest.mark.parametrize(
    ("attack", "name", "there"),
    [
        *((attack, "data/demo_{}/obs/object", "values") for attack in (*LINKS, *STORAGE)),
    ],
)
def test_observations_outside_the_file_are_left_out(
    path: Path, attack: Callable[..., None], name: str, there: str
) -> None:
    with h5py.File(path, "a") as file:
        attack(file, name.format(0), there)
    with pytest.warns(UserWarning, match=rf"left out: object \(is (a )?({OUTSIDE})"):
        assert set(load(path).arrays) == {"action", "position"}
    with pytest.raises(InputError, match=OUTSIDE):
        load(path, obs_keys=["object"])
    found = inspect_dataset(path)
    assert "object" in found.opened.stored and "object" not in found.ranges
    (finding,) = [f for f in found.warnings if f.kind == "unusable_array"]
    assert re.search(rf"obs/object is broken in .*: demo_0 is (a )?({OUTSIDE})", finding.message)
    with pytest.warns(UserWarning, match="left out: object"):
        done = convert(path, path.with_name("out.zarr"))
    assert set(done.shapes) == {"action", "position"}


def test_observations_of_a_group_outside_the_file(path: Path) -> None:
    with h5py.File(path, "a") as file:
        soft_to_external(file, "data/demo_0/obs", "obs")
    for entry in ("load", "convert"):
        with pytest.raises(InputError, match="data/demo_0/obs is a link into another file"):
            ENTRIES[entry](path)
    with pytest.raises(InputError, match="nothing that a policy could observe|link into another"):
        inspect_dataset(path)


# -- filter keys --------------------------------------------------------------------------------


def mask_in_other_file(file: h5py.File) -> None:
    file["mask/bad"] = h5py.ExternalLink("other.hdf5", "/names")


def mask_by_soft_link(file: h5py.File) -> None:
    file["way"] = h5py.ExternalLink("other.hdf5", "/names")
    file["mask/bad"] = h5py.SoftLink("/way")


def mask_in_other_storage(file: h5py.File) -> None:
    file.create_dataset("mask/bad", (3,), "S16", external=[("other.bin", 0, 48)])


def virtual_mask(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "S16")
    layout[:] = h5py.VirtualSource("other.hdf5", "names", (3,))
    file.create_virtual_dataset("mask/bad", layout)


def many(number: int, dtype: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file.create_dataset("mask/bad", (number,), dtype, chunks=(min(number, 1000),))[:1] = (
            b"demo_0"
        )

    return edit


def one_text_for_all(file: h5py.File) -> None:
    file["mask/bad"] = [*["demo_0"] * 10, "demo_" + "0" * 10**6]


def mask_elsewhere(file: h5py.File) -> None:
    put(file, "mask", h5py.ExternalLink("other.hdf5", "/mask"))


MASKS = [
    (mask_in_other_file, "mask/bad is a link into another file"),
    (mask_by_soft_link, "mask/bad is a link into another file"),
    (mask_in_other_storage, "mask/bad is stored in other files"),
    (virtual_mask, "mask/bad is stored in other files"),
    (many(5 * 10**8, "S6"), "mask/bad lists 500,000,000 names; expected at most 1,000"),
    (many(10**12, "S6"), "mask/bad lists 1,000,000,000,000 names; expected at most 1,000"),
    (many(10**12, h5py.string_dtype()), "mask/bad lists 1,000,000,000,000 names"),
    (many(10, "S5000000"), r"mask/bad holds names of 5,000,000 bytes; expected at most 1,024"),
    (one_text_for_all, "mask/bad holds names of 1,000,005 bytes; expected at most 1,024"),
    (lambda file: file.create_group("mask/bad"), "mask/bad is no list"),
    (mask_elsewhere, "mask is a link into another file"),
]


@pytest.mark.parametrize(("edit", "message"), MASKS)
def test_filter_keys_are_read_like_everything_else(
    path: Path, edit: Callable[[h5py.File], Any], message: str
) -> None:
    with h5py.File(path, "a") as file:
        edit(file)
    assert load(path).n_episodes == 3  # whoever asks for nothing gets the data
    for use in (
        lambda: load(path, filter_key="bad"),
        lambda: convert(path, path.with_name("out.zarr"), ConvertOptions(filter_key="bad")),
        lambda: extract(path, path.with_name("out.hdf5")),
    ):
        with pytest.raises(InputError, match=message) as caught:
            use()
        assert SECRET not in str(caught.value) and str(path) in str(caught.value)
        assert len(str(caught.value)) < 1000
    with RobomimicFile(path) as file:
        assert not isinstance(file.filter_keys().get("bad"), tuple)
    notes = inspect_dataset(path).notes
    assert notes[0].startswith(f"filter key is not usable: {path}: mask")
    assert len(notes) <= 2 and SECRET not in "".join(notes)


# -- sizes --------------------------------------------------------------------------------------


def written_chunk(
    file: h5py.File, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], times: int = 1
) -> None:
    """Put an array of zeros whose only chunk is packed ``times`` times, without making it."""
    put(file, name, 0)
    del file[name]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(chunk)
    for _ in range(times):
        properties.set_deflate(9)
    space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED,) * len(shape))
    array = h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_DOUBLE, space, properties)
    packer, zeros = zlib.compressobj(9), bytes(2**20)
    n_bytes = 8 * int(np.prod(chunk))
    packed = b"".join(packer.compress(zeros) for _ in range(min(n_bytes, 2**25) // 2**20))
    packed += packer.flush()
    for _ in range(times - 1):
        packed = zlib.compress(packed, 9)
    array.write_direct_chunk((0,) * len(shape), packed)


@pytest.mark.parametrize("entry", ["load", "convert", "extract"])
def test_no_chunk_is_much_larger_than_its_array(path: Path, entry: str) -> None:
    with h5py.File(path, "a") as file:
        written_chunk(file, "data/demo_1/actions", (LENGTH, 3), (2**14, 2**14))
    message = (
        r"demo_1: actions has chunks of 2,147,483,648 bytes \(16384, 16384\) for 480 bytes "
        r"\(20, 3\); expected chunks of at most 67,108,864 bytes"
    )
    with pytest.raises(InputError, match=message):
        ENTRIES[entry](path)


def test_values_packed_into_almost_nothing(path: Path) -> None:
    with h5py.File(path, "a") as file:
        written_chunk(file, "data/demo_1/obs/object", (2**20, 4), (2**20, 4), times=2)
    with Hdf5File(path) as file:
        array = file.root.find("data/demo_1/obs/object")
        assert isinstance(array, Hdf5Array) and not array.problem
        with pytest.raises(InputError, match=r"33,554,432 bytes .*more than 10,000 times the \d"):
            array.read()
    with pytest.raises(InputError, match="has 1048576 steps, expected 20"):
        load(path)


def chunk_of_zeros(
    file: h5py.File, name: str, n_bytes: int, *, chunk: tuple[int, ...], times: int = 1
) -> None:
    """Put (20, 3) float64 whose only chunk unpacks to ``n_bytes`` of zeros."""
    if name in file:
        del file[name]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(chunk)
    for _ in range(times):
        properties.set_deflate(9)
    space = h5py.h5s.create_simple((LENGTH, 3), chunk)
    where, _, own = name.rpartition("/")
    array = h5py.h5d.create(file[where].id, own.encode(), h5py.h5t.IEEE_F64LE, space, properties)
    packed = zlib.compress(bytes(n_bytes), 9)
    for _ in range(times - 1):
        packed = zlib.compress(packed, 9)
    array.write_direct_chunk((0, 0), packed)


@pytest.mark.parametrize(
    ("n_bytes", "chunk", "times", "message"),
    [
        (2**23, (LENGTH, 3), 1, r"has a chunk of 8,\d+ bytes in the file, expected at most 4,636"),
        (2**23, (LENGTH, 3), 2, r"is compressed 2 times over \(HDF5 filters \[1, 1\]\)"),
        (
            2**26,
            (LENGTH, 2**16),
            1,
            r"has a chunk at \(0, 0\) that unpacks to more than the 10,485,764 bytes",
        ),
    ],
)
def test_a_chunk_that_unpacks_to_more_than_its_values(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_bytes: int,
    chunk: tuple[int, ...],
    times: int,
    message: str,
) -> None:
    monkeypatch.setattr("lfm_policy.data.hdf5.array._LARGE_BYTES", 2**14)
    with h5py.File(path, "r+") as file:
        chunk_of_zeros(file, "data/demo_1/actions", n_bytes, chunk=chunk, times=times)
    with pytest.raises(InputError, match=f"demo_1: actions {message}"):
        load(path)


def test_a_mask_that_unpacks_to_more_than_its_names(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["mask/good"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((1,))
        properties.set_deflate(9)
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(8)
        space = h5py.h5s.create_simple((1,))
        array = h5py.h5d.create(file["mask"].id, b"good", kind, space, properties)
        array.write_direct_chunk((0,), zlib.compress(b"demo_1".ljust(2**23, b"\0"), 9))
    with pytest.raises(InputError, match=r"good.* has a chunk of 8,\d+ bytes in the file"):
        load(path, filter_key="good")


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_large_chunks_of_honest_files_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setattr("lfm_policy.data.hdf5.array._LARGE_BYTES", 2**10)
    values = np.random.default_rng(0).uniform(-1, 1, (3000, 3))
    with h5py.File(path, "r+") as file:
        file.create_dataset(
            "x",
            data=values,
            chunks=(1000, 3),
            compression=compression,
            shuffle=True,
            fletcher32=True,
        )
    with Hdf5File(path) as opened:
        array = opened.root.find("x")
        assert isinstance(array, Hdf5Array)
        np.testing.assert_array_equal(array.read(500, 1500), values[500:1500])
        np.testing.assert_array_equal(array.read(), values)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 4000),
    width=st.integers(1, 300),
    rows=st.integers(1, 4000),
    packed=st.sampled_from(["gzip", "lzf", None]),
    constant=st.booleans(),
)
def test_honest_files_are_read_however_well_they_pack(
    tmp_path_factory: pytest.TempPathFactory,
    length: int,
    width: int,
    rows: int,
    packed: str | None,
    constant: bool,
) -> None:
    path = tmp_path_factory.mktemp("packed") / "a.hdf5"
    values = np.zeros((length, width), np.float32)
    if not constant:
        values += np.random.default_rng(0).normal(size=values.shape)
    chunks = (min(rows, length), width)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "x", data=values, chunks=chunks, compression=packed, maxshape=(None, width)
        )
    with Hdf5File(path) as file:
        array = file.root.find("x")
        assert isinstance(array, Hdf5Array) and array.problem == array.size_problem() == ""
        np.testing.assert_array_equal(array.read(), values)
        np.testing.assert_array_equal(array.read(1, 3), values[1:3])


def test_an_attribute_is_bounded(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["data/demo_1"].attrs["num_samples"] = np.arange(1000)
    with pytest.raises(InputError, match="attribute num_samples has 8,000 bytes; expected at most"):
        load(path)
    with h5py.File(path, "a") as file:
        file["data/demo_1"].attrs["num_samples"] = np.array([["x" * 9] * 2], object)
    with pytest.raises(InputError, match="attribute num_samples has dtype object; expected a num"):
        load(path)


def test_groups_that_hold_themselves_have_an_end(path: Path) -> None:
    with h5py.File(path, "a") as file:
        obs = file["data/demo_0/obs"]
        for number in range(12):
            obs[f"again{number}"] = obs
    with pytest.raises(InputError, match="more than 10,000 groups and arrays"):
        load(path)
    assert set(load(path, obs_keys=["object"]).arrays) == {"action", "object"}


def test_links_inside_the_file_are_followed(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for number in range(3):
            demo = file[f"data/demo_{number}"]
            demo["obs/same"] = h5py.SoftLink("object")
            demo["obs/hard"] = demo["obs/object"]
            demo["obs/far"] = h5py.SoftLink(f"/data/demo_{number}/./obs/same")
        file["mask/also"] = h5py.SoftLink("/mask/good")
    arrays = load(path).arrays
    for key in ("same", "hard", "far"):
        np.testing.assert_array_equal(arrays[key], arrays["object"])
    assert load(path, filter_key="also").n_episodes == 1


def test_a_link_to_nothing_is_nothing(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs/gone"] = h5py.SoftLink("/data/nowhere")
    with pytest.warns(UserWarning, match="left out: gone"):
        assert set(load(path).arrays) == {"action", "object", "position"}
    with pytest.raises(InputError, match="demo_0 has no obs/gone"):
        load(path, obs_keys=["gone"])


def test_nothing_in_the_package_reads_hdf5_another_way() -> None:
    package = Path(lfm_policy.__file__).parent
    users = {str(p.relative_to(package)): p.read_text() for p in package.rglob("*.py")}
    users = {name: text for name, text in users.items() if "import h5py" in text}
    writers = {"data/robomimic/demos.py"}
    readers = {f"data/hdf5/{name}.py" for name in ("array", "file")}
    assert set(users) == {*readers, *writers}
    for name in writers:
        opened = re.findall(r"h5py\.File\((.*?)\)", users[name])
        assert opened and all(call.endswith('"w"') for call in opened)


# -- what this package writes and reads again ---------------------------------------------------


def test_what_was_collected_is_read_from_the_file_alone(path: Path) -> None:
    assert facts_of(path.with_name("other.hdf5")) == {"attempts": SECRET}
    with h5py.File(path, "a") as file:
        soft_to_external(file, "data", "data")
    assert facts_of(path) is None


def test_a_recording_joins_only_its_own_parts(path: Path) -> None:
    recording = DemoRecording(path.with_name("new.hdf5"), {})
    values = np.zeros((LENGTH, 2))
    recording.add(0, Demo(values, {"x": values}, values[:, 0], values[:, 0], model_file="<a/>"))
    (part,) = path.with_name("new.hdf5.parts").glob("*.hdf5")
    whole = part.read_bytes()
    with h5py.File(part, "a") as file:
        soft_to_external(file, "obs/x", "values")
    with pytest.raises(InputError, match="link into another file"):
        recording.finish(ENV_ARGS)
    part.write_bytes(whole)
    recording.finish(ENV_ARGS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load(path.with_name("new.hdf5")).arrays["x"], values)


def test_more_than_the_memory_is_not_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 3, "SC_PAGE_SIZE": 479}.__getitem__)
    message = "actions of all demos needs 1,440 bytes of memory, and this machine has 1,437: leave"
    with pytest.raises(InputError, match=message):
        load(path)
    assert load(path, max_episodes=2).n_episodes == 2
