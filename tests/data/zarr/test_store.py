"""Reading and writing zarr replay buffers: every layout, and every way a store can be bad."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.storage import ZipStore

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import list_zarr, load_zarr, write_zarr
from lfm_policy.errors import InputError

ENDS = np.array([7, 12, 20])
LAYOUTS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2},
    "v2-slash": {
        "zarr_format": 2,
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}},
    },
    "v2-raw": {"zarr_format": 2, "compressors": None},
    "v2-zstd": {"zarr_format": 2, "compressors": numcodecs.Zstd()},
    "v2-filters": {"zarr_format": 2, "filters": [numcodecs.Shuffle(4)]},
    "v3": {"zarr_format": 3},
    "v3-blosc": {"zarr_format": 3, "compressors": zarr.codecs.BloscCodec()},
    "v3-sharded": {"zarr_format": 3, "shards": True},
}


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "data/action": rng.normal(size=(20, 2)).astype(np.float32),
        "data/state": rng.normal(size=(20, 5)),
        "data/obs/pose": rng.normal(size=(20, 3, 2)).astype(np.float32),
        "meta/episode_ends": ENDS,
    }


def make_store(path: Path, layout: str = "v2", **changes: np.ndarray | None) -> Path:
    """Write a store of several chunks per array with zarr alone; ``None`` leaves an array out."""
    options = dict(LAYOUTS[layout])
    sharded = options.pop("shards", False)
    zarr_format = options.pop("zarr_format")
    contents: dict[str, np.ndarray | None] = {**arrays(), **changes}
    store = ZipStore(path, mode="w") if path.suffix == ".zip" else path
    root = zarr.create_group(store, zarr_format=zarr_format)
    for name, values in contents.items():
        if values is None:
            continue
        array = root.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(1, min(n, 3)) for n in values.shape),
            shards=tuple(max(1, min(n, 3)) * 2 for n in values.shape) if sharded else None,
            config={"write_empty_chunks": True},
            **options,
        )
        array[...] = values
    if isinstance(store, ZipStore):
        store.close()
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "demo.zarr")


def edit_metadata(store: Path, name: str, **changes: Any) -> None:
    path = store / name / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", [".zarr", ".zarr.zip"])
def test_reads_every_layout(tmp_path: Path, layout: str, suffix: str) -> None:
    path = make_store(tmp_path / f"demo{suffix}", layout)
    buffer = load_zarr(path, ["state", "action", "obs/pose"])
    assert list(buffer.arrays) == ["state", "action", "obs/pose"]
    for key, values in buffer.arrays.items():
        expected = arrays()[f"data/{key}"]
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == expected.dtype and values.flags.c_contiguous
    np.testing.assert_array_equal(buffer.episode_ends, ENDS)
    assert buffer.episode_ends.dtype == np.int64
    assert buffer.source == str(path)
    infos = list_zarr(path).readable
    assert {key: info.shape for key, info in infos.items()} == {
        "action": (20, 2),
        "obs/pose": (20, 3, 2),
        "state": (20, 5),
    }
    assert infos["state"].dtype == np.float64


def test_reads_the_human_demonstrations(pusht_zarr: Path) -> None:
    buffer = load_zarr(pusht_zarr, ["action", "state"])
    assert buffer.arrays["action"].shape == (25650, 2)
    assert buffer.arrays["state"].shape == (25650, 5)
    assert (buffer.n_episodes, buffer.n_steps) == (206, 25650)
    assert (buffer.episode_lengths.min(), buffer.episode_lengths.max()) == (49, 246)
    assert list_zarr(pusht_zarr).readable["img"].shape == (25650, 96, 96, 3)


@pytest.mark.parametrize("suffix", [".zarr", ".zarr.zip"])
def test_write_then_read(tmp_path: Path, suffix: str) -> None:
    values = {
        "action": np.arange(40, dtype=np.float32).reshape(20, 2),
        "flag": np.zeros((20, 1), dtype=bool),  # zarr would drop chunks of zeros by default
        "wide": np.random.default_rng(0).normal(size=(20, 30_000)),  # several chunks
    }
    path = tmp_path / f"new{suffix}"
    write_zarr(path, ReplayBuffer(arrays=values, episode_ends=ENDS))
    buffer = load_zarr(path, values)
    for key, expected in values.items():
        np.testing.assert_array_equal(buffer.arrays[key], expected)
        assert buffer.arrays[key].dtype == expected.dtype
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    if suffix == ".zarr":
        assert json.loads((path / "data/action/.zarray").read_text())["zarr_format"] == 2
        assert len(list((path / "data/wide").glob("[0-9]*"))) > 1


def test_write_refuses_to_replace_or_to_write_what_it_would_not_read(tmp_path: Path) -> None:
    buffer = ReplayBuffer(arrays={"action": np.zeros((20, 2))}, episode_ends=ENDS)
    for name in ("a.zarr", "a.zarr.zip"):
        write_zarr(tmp_path / name, buffer)
        with pytest.raises(InputError, match="exists already"):
            write_zarr(tmp_path / name, buffer)
    bad = ReplayBuffer(arrays={"action": np.full((20, 2), np.nan)}, episode_ends=ENDS)
    with pytest.raises(InputError, match="holds nan"):
        write_zarr(tmp_path / "b.zarr", bad)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zarr", "a.zarr.zip"]


# --- bad input ------------------------------------------------------------------------------------


def refused(path: Path, message: str, keys: tuple[str, ...] = ("action", "state")) -> None:
    """Reading must fail with a message that names the store."""
    with pytest.raises(InputError, match=message) as caught:
        load_zarr(path, keys)
    assert path.name in str(caught.value)


def test_missing_array(store: Path) -> None:
    refused(store, r"no array data/stat: did you mean 'data/state'.*data/obs/pose", ("stat",))


def test_missing_episode_ends(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr", **{"meta/episode_ends": None})
    refused(path, "there is no array meta/episode_ends")


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (np.array([12, 7, 20]), "not increasing: episode 1 ends at 7, before its start 12"),
        (np.array([7, 7, 20]), "episode 1 is empty"),
        (np.array([0, 7, 20]), "episode 0 is empty"),
        (np.array([7, 12, 21]), "data/action has 20 steps, but the last of episode_ends is 21"),
        (np.array([7, 12]), "data/action has 20 steps, but the last of episode_ends is 12"),
        (np.array([7.0, 12.0, 20.0]), "dtype float64; expected rank 1 and int64"),
        (ENDS[:, None], r"shape \(3, 1\) and dtype int64; expected rank 1 and int64"),
        (np.array([], dtype=np.int64), "holds no episode"),
    ],
)
def test_bad_episode_ends(tmp_path: Path, ends: np.ndarray, message: str) -> None:
    refused(make_store(tmp_path / "demo.zarr", **{"meta/episode_ends": ends}), message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(tmp_path: Path, value: float) -> None:
    state = arrays()["data/state"]
    state[9, 3] = value
    path = make_store(tmp_path / "demo.zarr", **{"data/state": state})
    refused(path, f"state holds {value} in episode 1, step 2")
    load_zarr(path, ["action"])  # what is not read does not matter


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((20, 1), "a"), "data/state has dtype .*; expected numbers"),
        (np.zeros((20, 1), np.complex64), "data/state has dtype complex64; expected numbers"),
        (np.zeros(()), "data/state has rank 0"),
        (np.zeros((20, 0)), r"data/state has shape \(20, 0\): it holds no values"),
        (np.zeros((19, 5)), "data/state has 19 steps, but the last of episode_ends is 20"),
    ],
)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_wrong_dtype_or_rank(tmp_path: Path, values: np.ndarray, message: str) -> None:
    refused(make_store(tmp_path / "demo.zarr", **{"data/state": values}), message)


def test_action_of_wrong_rank(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr", **{"data/action": np.zeros((20, 2, 2))})
    refused(path, r"data/action has rank 3.*\(steps, action_dim\)")


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "demo.zarr", "no such file or folder")


def test_not_zarr(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("hello")
    refused(folder, "not a zarr store")
    refused(folder / "notes.txt", "neither a folder nor a readable zip")
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "hello")
    refused(tmp_path / "notes.zip", "not a zarr store")
    with pytest.raises(InputError, match="not a zarr store"):
        list_zarr(folder)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_truncated_zip(tmp_path: Path, keep: float) -> None:
    path = make_store(tmp_path / "demo.zarr.zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path, "neither a folder nor a readable zip .*truncated")


def test_damaged_zip_member(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr.zip")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("data/state/2.0")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + 20] ^= 0xFF
    path.write_bytes(content)
    refused(path, r"data/state: chunk .* cannot be decoded .*Bad CRC")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "v2-slash"])
@pytest.mark.parametrize("drop", [1, 5, 60, 10**6])
def test_truncated_chunk(tmp_path: Path, layout: str, drop: int) -> None:
    """Blosc would decode what follows in memory, without an error."""
    path = make_store(tmp_path / "demo.zarr", layout)
    chunk = path / "data/state" / ("c/1/0" if layout.startswith("v3") else "1.0")
    chunk.write_bytes(chunk.read_bytes()[:-drop])
    refused(path, r"data/state: chunk (c/1/0|1.0) cannot be decoded .*truncated or damaged")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_absent_chunk(tmp_path: Path, layout: str) -> None:
    """Without the check, zarr fills it with zeros and says nothing."""
    path = make_store(tmp_path / "demo.zarr", layout)
    chunk = max(
        entry
        for entry in (path / "data/action").rglob("*")
        if entry.is_file() and entry.name.lstrip(".")[0].isdigit()
    )
    chunk.unlink()
    zarr.open_group(path, mode="r")["data/action"][...]  # no error from zarr
    refused(path, r"data/action: its metadata promises shape \(20, 2\) in .* chunks, but chunk ")


def test_metadata_promises_more_steps_than_there_are_chunks(store: Path) -> None:
    edit_metadata(store, "data/action", shape=[40, 2])
    edit_metadata(store, "data/state", shape=[40, 5])
    make_ends = zarr.open_array(store, path="meta/episode_ends", mode="r+")
    make_ends[...] = [7, 12, 40]
    refused(store, r"promises shape \(40, 2\) in 14 chunks, but chunk 7.0 is absent")


HUGE = 10**12


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("data/state", {"shape": [20, HUGE]}),
        ("data/state", {"shape": [20, HUGE], "chunks": [3, HUGE]}),
        ("data/state", {"shape": [HUGE, 5]}),
        ("data/state", {"chunks": [HUGE, HUGE], "shape": [20, 5]}),
        ("data/state", {"shape": [20, 10**40]}),
        ("data/state", {"shape": [20, -5]}),
        ("data/state", {"chunks": [0, 5]}),
        ("data/state", {"shape": "many"}),
        ("data/state", {"dtype": "<f4000000000"}),
        ("meta/episode_ends", {"shape": [HUGE]}),
        ("meta/episode_ends", {"shape": [HUGE], "chunks": [HUGE]}),
        ("meta/episode_ends", {"shape": [HUGE], "chunks": [1]}),
    ],
)
def test_absurd_metadata_allocates_nothing(
    store: Path, name: str, changes: dict[str, Any], limited_memory: None
) -> None:
    edit_metadata(store, name, **changes)
    refused(store, "data/state|meta/episode_ends")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"zarr_format": 9}', "\x00\xff"])
def test_unreadable_metadata(store: Path, text: str) -> None:
    (store / "data/state/.zarray").write_text(text)
    refused(store, "the metadata of data/state cannot be read")


def test_a_pickle_codec_is_never_run(store: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (tmp_path / "pwned",)

    for chunk in (store / "data/state").glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Evil()))
    for changes in (
        {"compressor": {"id": "pickle"}},
        {"compressor": None, "filters": [{"id": "pickle"}]},
        {"compressor": None, "filters": [{"id": "pickle"}], "dtype": "|O"},
    ):
        edit_metadata(store, "data/state", **changes)
        refused(store, "data/state.*(codec 'pickle'|cannot be read|dtype object)")
    assert not (tmp_path / "pwned").exists()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), as_zip=st.booleans())
def test_random_damage_is_refused_or_harmless(
    data: st.DataObject, as_zip: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = make_store(folder / ("demo.zarr.zip" if as_zip else "demo.zarr"))
    files = [path] if as_zip else sorted(entry for entry in path.rglob("*") if entry.is_file())
    victim = data.draw(st.sampled_from(files))
    content = bytearray(victim.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    victim.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        load_zarr(path, ["action", "state"]).validate()
    except InputError:
        pass
    finally:
        shutil.rmtree(folder)


def test_a_zip_bomb_is_refused(tmp_path: Path, limited_memory: None) -> None:
    path = make_store(tmp_path / "demo.zarr.zip")
    bomb = tmp_path / "bomb.zarr.zip"
    zeros = io.BytesIO(bytes(200 * 2**20))
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for name in source.namelist():
            evil = name == "data/state/0.0"
            target.writestr(name, zeros.getvalue() if evil else source.read(name))
    refused(bomb, "data/state")
