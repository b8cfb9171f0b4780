"""Chunks that are absent: the fill value, or lost."""

from __future__ import annotations

import shutil
import struct
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import load_arrays, load_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

N, CHUNK = 130, 10
ENDS = np.array([40, 90, N])
LAYOUTS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2, "chunks": (CHUNK, 1), "compressors": numcodecs.Blosc()},
    "v3": {"zarr_format": 3, "chunks": (CHUNK, 1)},
    "sharded": {"zarr_format": 3, "chunks": (CHUNK, 1), "shards": (4 * CHUNK, 1)},
    "sharded-start": {
        "zarr_format": 3,
        "chunks": (4 * CHUNK, 1),
        "compressors": None,
        "serializer": zarr.codecs.ShardingCodec(chunk_shape=(CHUNK, 1), index_location="start"),
    },
}


def gripper(*closed: tuple[int, int]) -> np.ndarray:
    """Return a flag (N, 1) that is 1 but for these spans."""
    flag = np.ones((N, 1), np.float32)
    for begin, end in closed:
        flag[begin:end] = 0
    return flag


def make_store(path: Path, layout: str = "v3", **changes: Any) -> Path:
    """Write a store as zarr does by default: chunks of nothing but the fill value are left out."""
    rng = np.random.default_rng(0)
    arrays = {
        "data/action": rng.normal(size=(N, 2)),
        "data/state": rng.normal(size=(N, 3)),
        "data/gripper": gripper((10, 20)),
        "meta/episode_ends": ENDS,
        **changes,
    }
    options = dict(LAYOUTS[layout])
    root = zarr.create_group(path, zarr_format=options.pop("zarr_format"))
    for name, values in arrays.items():
        own = dict(options) if values.ndim == 2 and values.shape[1] == 1 else {}
        root.create_array(name, shape=values.shape, dtype=values.dtype, **own)[...] = values
    return path


def load(path: Path, *keys: str) -> dict[str, np.ndarray]:
    return ZarrConfig(path=str(path), obs_keys=list(keys)).load().arrays


def refused(path: Path, message: str, *keys: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(path, *(keys or ("gripper",)))
    assert "Copy the store again" in str(caught.value) and "write_empty_chunks" in str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("span", [(10, 20), (0, 10), (60, 80), (120, 130), (0, 120)])
def test_a_flag_that_is_zero_throughout_a_chunk(
    tmp_path: Path, layout: str, span: tuple[int, int]
) -> None:
    path = make_store(tmp_path / "demo.zarr", layout, **{"data/gripper": gripper(span)})
    count = (span[1] - span[0]) // CHUNK
    said = f"{count} of 13 chunks absent, read as fill value 0"
    with pytest.warns(UserWarning, match=f"demo.zarr: data/gripper: {said}"):
        values = load(path, "gripper")["gripper"]
    np.testing.assert_array_equal(values, gripper(span))
    inspection = inspect_dataset(path)
    (note,) = inspection.notes
    assert f"data/gripper: {said}" in note
    np.testing.assert_array_equal(inspection.buffer.arrays["gripper"], gripper(span))
    assert not [f for f in inspection.warnings if f.kind == "unusable_array"]


def test_nothing_is_said_where_all_chunks_are_there(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path, "state")


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    flags=st.lists(st.booleans(), min_size=13, max_size=13).filter(any),
    fill=st.sampled_from([0, 1, 255]),
    dtype=st.sampled_from(["uint8", "float32", "int64", "float16"]),
)
def test_any_flag_is_what_zarr_reads(
    layout: str, flags: list[bool], fill: int, dtype: str, tmp_path_factory: Any
) -> None:
    """Whatever chunks are left out, whatever they stand for."""
    path = make_store(tmp_path_factory.mktemp("flags") / "demo.zarr")
    other = 7
    values = np.where(np.repeat(flags, CHUNK), other, fill).astype(dtype)[:, None]
    options = dict(LAYOUTS[layout])
    version = options.pop("zarr_format")
    zarr.create_array(
        path, name="data/flag", shape=(N, 1), dtype=dtype, fill_value=fill, zarr_format=version,
        **options,
    )[...] = values  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load(path, "flag")["flag"]
    np.testing.assert_array_equal(found, values)
    said = [str(w.message) for w in caught if "absent" in str(w.message)]
    n_absent = flags.count(False)
    assert len(said) == (n_absent > 0)
    if n_absent:
        assert f"{n_absent} of 13 chunks absent, read as fill value {fill}" in said[0]
    shutil.rmtree(path)


def test_black_images(tmp_path: Path) -> None:
    images = np.full((N, 24, 24, 3), 90, np.uint8)
    images[30:33] = 0
    path = make_store(tmp_path / "demo.zarr")
    zarr.create_array(path, name="data/img", shape=images.shape, dtype="u1", chunks=(1, 24, 24, 3))[
        ...
    ] = images
    config = ZarrConfig(path=str(path), obs_keys=["img"])
    with pytest.warns(UserWarning, match="data/img: 3 of 130 chunks absent, read as fill value 0"):
        found = config.load(tmp_path / "cache").arrays["img"]
    np.testing.assert_array_equal(found, images)
    assert any("data/img: 3 of 130 chunks absent" in note for note in inspect_dataset(path).notes)


# --- lost -----------------------------------------------------------------------------------------


def test_no_fill_value(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr", "v2")
    file = path / "data/gripper/.zarray"
    file.write_text(file.read_text().replace('"fill_value": 0.0', '"fill_value": null'))
    assert "null" in file.read_text()
    refused(
        path,
        r"data/gripper: its metadata promises shape \(130, 1\) in 13 chunks, but chunk 1.0 is "
        r"absent \(12 chunks are there\), and there is no fill value that it would stand for",
    )


def test_no_chunk_at_all(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr", **{"data/gripper": gripper((0, N))})
    refused(path, r"chunk c/0/0 is absent \(0 chunks are there\)")
    load_zarr(path, ["action", "state"])  # an array that nobody asked for


@pytest.mark.parametrize("layout", ["v2", "v3"])
def test_the_fill_value_is_not_finite(tmp_path: Path, layout: str) -> None:
    path = make_store(tmp_path / "demo.zarr")
    flag = gripper()
    flag[50:60] = np.nan
    options = dict(LAYOUTS[layout])
    version = options.pop("zarr_format")
    zarr.create_array(
        path, name="data/force", shape=(N, 1), dtype="f4", fill_value=np.nan, zarr_format=version,
        **options,
    )[...] = flag  # fmt: skip
    refused(path, r"data/force: .* chunk .*5.0 is absent .*its fill value is nan, not a", "force")


def remove(path: Path, key: str, *chunks: int) -> None:
    for chunk in chunks:
        (path / "data" / key / "c" / str(chunk) / "0").unlink()


@pytest.mark.parametrize("chunks", [(12,), (5,), (0, 1), (3, 12)])
def test_a_measurement_does_not_rest_for_just_a_chunk(
    tmp_path: Path, chunks: tuple[int, ...]
) -> None:
    state = np.random.default_rng(1).normal(size=(N, 1))
    path = make_store(tmp_path / "demo.zarr", **{"data/state": state})
    remove(path, "state", *chunks)
    refused(
        path,
        rf"data/state: .* chunk c/{chunks[0]}/0 is absent.*no step that is there holds only the "
        "fill value, in values that hardly ever repeat: it was lost",
        "state",
    )
    state[45] = 0  # it rested there
    calm = make_store(tmp_path / "calm.zarr", **{"data/state": state})
    remove(calm, "state", *chunks)
    with pytest.warns(UserWarning, match="chunks absent"):
        load(calm, "state")


def test_two_arrays_that_end_in_the_same_place(tmp_path: Path) -> None:
    flag = gripper((10, 25))
    path = make_store(tmp_path / "demo.zarr", **{"data/gripper": flag, "data/other": flag})
    remove(path, "gripper", 11, 12)
    with pytest.warns(UserWarning, match="3 of 13 chunks absent"):
        load(path, "gripper")  # the other one goes on
    remove(path, "other", 12)
    with pytest.warns(UserWarning, match="3 of 13 chunks absent"):
        load(path, "gripper")  # and still goes on for a chunk
    remove(path, "other", 11)
    refused(path, "data/other ends there, too: the copy or recording broke off")


def test_no_array_reaches_the_end(tmp_path: Path) -> None:
    """A recording was announced longer than it became."""
    flags = {f"data/{key}": gripper((10, 25)) for key in ("action", "state", "gripper")}
    path = make_store(tmp_path / "demo.zarr", **flags)
    for last, key in ((12, "gripper"), (9, "state"), (6, "action")):
        remove(path, key, *range(last, 13))
    refused(path, "no array has chunks up to step 130: the copy or recording broke off")


def test_another_array_is_damaged(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr", "v2", **{"data/gripper": gripper((120, N))})
    with pytest.warns(UserWarning, match="1 of 13 chunks absent"):
        load(path, "gripper")
    chunk = next(f for f in (path / "data/state").iterdir() if f.name[0].isdigit())
    chunk.write_bytes(b"")
    refused(path, "data/state is damaged: the copy or recording broke off")


def test_a_truncated_chunk_is_refused_whatever_else_is_absent(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr")
    chunk = path / "data/gripper/c/5/0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(InputError, match="data/gripper: chunk c/5/0 cannot be decoded"):
        load(path, "gripper")


def test_episode_ends_and_recorded_times_are_never_filled_in(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr")
    zarr.create_array(path, name="steps/time", data=np.zeros(N), chunks=(CHUNK,), overwrite=True)
    with pytest.raises(InputError, match=r"steps/time: .* chunk c/0 is absent"):
        load_arrays(path, ["steps/time"])
    shutil.rmtree(path / "meta/episode_ends/c")
    refused(path, "meta/episode_ends: .* is absent", "state")


@pytest.mark.parametrize("value", [2**64 - 2, 2**40])
def test_the_index_of_a_shard_that_lies(tmp_path: Path, value: int) -> None:
    path = make_store(tmp_path / "demo.zarr", "sharded")
    shard = path / "data/gripper/c/1/0"
    content = bytearray(shard.read_bytes())
    struct.pack_into("<Q", content, len(content) - 4 - 4 * 16, value)
    shard.write_bytes(content)
    with pytest.raises(InputError, match="data/gripper: chunk c/1/0 cannot be decoded"):
        load(path, "gripper")


def test_a_grid_that_is_absurd(tmp_path: Path, limited_memory: None) -> None:
    """No time or memory is spent on chunks that only the metadata knows."""
    path = make_store(tmp_path / "demo.zarr", "v2")
    file = path / "data/gripper/.zarray"
    text = file.read_text().replace("130,", "130000000000,").replace("10,", "1,")
    file.write_text(text.replace("<f4", "|u1"))
    with pytest.raises(InputError, match="data/gripper"):
        load(path, "gripper")
    with pytest.raises(InputError, match="its metadata promises 130,000,000,000 bytes"):
        load_arrays(path, ["data/gripper"])
