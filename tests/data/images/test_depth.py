"""Depth in every format of demonstrations: the same levels, or what has to be said."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from lfm_policy import write_zarr as write_episodes
from lfm_policy.config import load_config
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.images.depth import depth_array, looks_like_depth
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tools.convert import ConvertOptions, convert
from lfm_policy.data.zarr.store import load_arrays
from lfm_policy.errors import InputError
from lfm_policy.training.rows.data import load_datasets
from lfm_runtime.policy.depth import depth_levels

LENGTHS, HEIGHT, WIDTH = (6, 5), 20, 24
STEPS = sum(LENGTHS)
NEAR, FAR = 200, 1500
DEPTH = np.random.default_rng(0).integers(0, 2000, (STEPS, HEIGHT, WIDTH)).astype(np.uint16)
LEVELS = depth_levels(DEPTH, NEAR, FAR)[..., None]
NUMBERS = np.random.default_rng(1).normal(size=(STEPS, 3)).astype(np.float32)


def write_zarr(folder: Path, depth: np.ndarray) -> Path:
    path = folder / "demo.zarr"
    root = zarr.create_group(str(path), zarr_format=2)
    arrays = {"data/action": NUMBERS, "data/joints": NUMBERS, "data/depth": depth}
    for name, values in {**arrays, "meta/episode_ends": np.cumsum(LENGTHS)}.items():
        root.create_array(name, data=values)
    return path


def write_hdf5(folder: Path, depth: np.ndarray) -> Path:
    path = folder / "demo.hdf5"
    with h5py.File(path, "w") as file:
        begin = 0
        for number, length in enumerate(LENGTHS):
            rows = slice(begin, begin + length)
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"] = NUMBERS[rows]
            demo["obs/joints"], demo["obs/depth"] = NUMBERS[rows], depth[rows]
            begin += length
    return path


def write_lerobot(folder: Path, depth: np.ndarray, dtype: str = "") -> Path:
    """Version 2.1; numbers unless ``dtype`` is image: then PNG of 16 bits."""
    root, begin, episodes = folder / "demo", 0, []
    numbers = {"action": NUMBERS, "joints": NUMBERS}
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": [3], "names": None} for key in numbers
    }
    features["depth"] = {"dtype": dtype or str(depth.dtype), "shape": list(depth.shape[1:])}
    for number, length in enumerate(LENGTHS):
        rows = slice(begin, begin + length)
        columns: dict[str, Any] = {key: values[rows].tolist() for key, values in numbers.items()}
        columns["depth"] = depth[rows].tolist()
        if dtype == "image":
            columns["depth"] = [png(image.reshape(HEIGHT, WIDTH)) for image in depth[rows]]
        types = {"action": pa.list_(pa.float32()), "joints": pa.list_(pa.float32())}
        kind: Any = pa.from_numpy_dtype(depth.dtype)
        for _ in depth.shape[1:]:
            kind = pa.list_(kind)
        if dtype != "image":
            types["depth"] = kind
        columns["timestamp"] = np.arange(length, dtype=np.float32) / 10
        columns["frame_index"] = np.arange(length)
        columns["episode_index"] = np.full(length, number)
        path = root / "data" / "chunk-000" / f"episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({k: pa.array(v, types.get(k)) for k, v in columns.items()}), path)
        episodes.append(json.dumps({"episode_index": number, "tasks": ["x"], "length": length}))
        begin += length
    info = {"codebase_version": "v2.1", "fps": 10, "features": features, "chunks_size": 1000}
    (root / "meta").mkdir()
    (root / "meta" / "info.json").write_text(json.dumps(info))
    (root / "meta" / "episodes.jsonl").write_text("\n".join(episodes))
    return root


def png(image: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": "frame.png"}


def write_lerobot_pictures(folder: Path, depth: np.ndarray) -> Path:
    return write_lerobot(folder, depth, "image")


WRITERS = {
    "zarr": write_zarr,
    "robomimic": write_hdf5,
    "lerobot": write_lerobot,
    "lerobot pictures": write_lerobot_pictures,
}
LAYOUTS = {
    "h w": lambda depth: depth,
    "h w c": lambda depth: depth[..., None],
    "c h w": lambda depth: depth[:, None],
}
Writer = Callable[[Path, np.ndarray], Path]


@pytest.fixture(params=WRITERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load(kind: str, path: Path, **options: Any) -> ReplayBuffer:
    config = DATASET_FORMATS.get(kind.split()[0])(path=str(path), **options)
    return config.load(ImageCache(path.parent / "cache"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("axes", LAYOUTS)
def test_all_formats_and_layouts_give_the_same_levels(kind: str, axes: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path, LAYOUTS[axes](DEPTH))
    options = {"obs_keys": ["joints", "depth"], "depth": {"depth": [NEAR, FAR]}}
    buffer = load(kind, path, **options, rename={"depth": "wrist"})
    np.testing.assert_array_equal(buffer.arrays["wrist"], LEVELS)
    assert buffer.depth == {"wrist": (NEAR, FAR)}
    assert buffer.step_shape("wrist") == (HEIGHT, WIDTH, 1)
    # Another range is another cache.
    other = load(kind, path, obs_keys=["depth"], depth={"depth": [NEAR, 2 * FAR]})
    np.testing.assert_array_equal(other.arrays["depth"][..., 0], depth_levels(DEPTH, NEAR, 2 * FAR))
    assert len({buffer.fingerprint(), other.fingerprint()}) == 2
    assert other.select_episodes([1]).depth == {"depth": (NEAR, 2 * FAR)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("axes", LAYOUTS)
def test_depth_that_nobody_named_is_refused_with_the_line_that_reads_it(
    kind: str, axes: str, tmp_path: Path
) -> None:
    path = WRITERS[kind](tmp_path, LAYOUTS[axes](DEPTH))
    with pytest.raises(InputError, match=r"dataset\.depth"):
        load(kind, path, obs_keys=["joints", "depth"])
    assert list(load(kind, path, obs_keys=["joints"]).arrays) == ["action", "joints"]


@pytest.mark.filterwarnings("ignore")
def test_metres_are_read_as_well(tmp_path: Path) -> None:
    metres = (DEPTH / 1000).astype(np.float32)
    metres[0, 0, 0] = np.nan
    for kind in ("zarr", "robomimic"):
        path = WRITERS[kind](tmp_path, metres)
        buffer = load(kind, path, obs_keys=["depth"], depth={"depth": [0.2, 1.5]})
        np.testing.assert_array_equal(buffer.arrays["depth"][1:], LEVELS[1:])
        assert buffer.arrays["depth"][0, 0, 0] == 0


@pytest.mark.filterwarnings("ignore")
def test_what_is_wrong_is_said(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path, DEPTH)
    for depth, message in (
        ({"depth": [5000, 9000]}, "holds 1 to 1999, and dataset.depth says 5000 to 9000"),
        ({"depth": [1500, 200]}, r"depth gives 'depth' the range \[1500.0, 200.0\], expected"),
        ({"depth": [200]}, "expected the nearest and the farthest"),
        ({"dept": [200, 1500]}, "depth names 'dept', which is not among obs_keys.*'depth'"),
        ({"depth": [NEAR, FAR], "joints": [0, 1]}, "joints"),
    ):
        with pytest.raises(InputError, match=message):
            load(kind, path, obs_keys=["joints", "depth"], depth=depth)


@pytest.mark.filterwarnings("ignore")
def test_grey_cameras_are_no_depth(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path, (DEPTH // 8).astype(np.uint8)[..., None])
    with pytest.raises(InputError, match="dataset.depth names it; expected"):
        load(kind, path, obs_keys=["depth"], depth={"depth": [20, 200]})


@pytest.mark.filterwarnings("ignore")
def test_without_obs_keys_depth_is_seen_where_it_is_named(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path, DEPTH)
    assert list(load("robomimic", path).arrays) == ["action", "joints"]
    named = load("robomimic", path, depth={"depth": [NEAR, FAR]})
    np.testing.assert_array_equal(named.arrays["depth"], LEVELS)


@pytest.mark.parametrize("axes", LAYOUTS)
def test_distances_are_written_as_they_are(tmp_path: Path, axes: str) -> None:
    metres = (DEPTH / 1000).astype(np.float32)
    begins = np.cumsum([0, *LENGTHS])
    for dtype, depth in (("uint16", DEPTH), ("float32", metres)):
        episodes = [
            {"obs": {"depth": LAYOUTS[axes](depth)[a:b]}, "action": NUMBERS[a:b]}
            for a, b in pairwise(begins)
        ]
        path = write_episodes(episodes, tmp_path / f"{dtype}.zarr", fps=10)
        (read,) = load_arrays(path, ["data/depth"]).values()
        np.testing.assert_array_equal(read, depth)
        assert read.dtype == dtype


@pytest.mark.parametrize("axes", LAYOUTS)
@pytest.mark.parametrize("source", ["zarr", "robomimic"])
def test_conversion_keeps_distances(
    source: str, axes: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = WRITERS[source](tmp_path, LAYOUTS[axes](DEPTH))
    for number, (kind, suffix) in enumerate((("zarr", ".zarr"), ("robomimic", ".hdf5"))):
        rename = {"depth": "wrist"} if number else {}
        target = tmp_path / f"out{suffix}"
        found = convert(path, target, ConvertOptions(max_episodes=1, rename=rename))
        name = rename.get("depth", "depth")
        assert (found.shapes[name], found.dtypes[name]) == ((HEIGHT, WIDTH), "uint16")
        buffer = load(kind, target, obs_keys=["joints", name], depth={name: [NEAR, FAR]})
        np.testing.assert_array_equal(buffer.arrays[name], LEVELS[: LENGTHS[0]])
    said = " ".join(str(warning.message) for warning in recwarn)
    assert "left out" not in said
    with pytest.warns(UserWarning, match="depth is depth and left out: zarr and HDF5 can hold it"):
        convert(path, tmp_path / "lerobot", ConvertOptions(fps=10))
    with pytest.raises(InputError, match="depth is depth and left out"):
        convert(path, tmp_path / "other", ConvertOptions(fps=10, obs_keys=["depth"]))


def test_a_format_that_reads_no_depth_says_so(tmp_path: Path) -> None:
    class Blind(DATASET_FORMATS.get("zarr")):  # type: ignore[misc]
        def load(self, image_cache: Any = None, *, quiet: bool = True) -> ReplayBuffer:
            arrays = {"action": NUMBERS, "joints": NUMBERS}
            return ReplayBuffer(arrays, np.cumsum(LENGTHS))

    config = load_config("own/state", ["policy.horizon=4", "policy.n_action_steps=2"])
    dataset = Blind(path="x", obs_keys=["joints"], depth={"joints": [0, 1]})
    object.__setattr__(config, "dataset", dataset)
    with pytest.raises(InputError, match="dataset.depth names joints, but the format zarr reads"):
        load_datasets(config, tmp_path)


def test_arrays_in_memory_become_levels_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfm_policy.data.images.depth._AT_ONCE", 4)
    np.testing.assert_array_equal(depth_array("here", DEPTH, (NEAR, FAR)), LEVELS)
    with pytest.raises(InputError, match=r"has shape \(5, 6, 2\) per step"):
        depth_array("here", np.ones((3, 5, 6, 2), np.uint16), (NEAR, FAR))
    with pytest.raises(InputError, match="holds no distance at all"):
        depth_array("here", np.zeros((3, 5, 6), np.uint16), (NEAR, FAR))


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((480, 640), "uint16", True),
        ((480, 640, 1), "uint16", True),
        ((1, 480, 640), "uint16", True),
        ((480, 640), "float32", False),
        ((2, 7), "uint16", False),
        ((3, 480, 640), "uint16", False),
        ((7,), "uint16", False),
    ],
)
def test_what_looks_like_depth(shape: tuple[int, ...], dtype: str, expected: bool) -> None:
    assert looks_like_depth(shape, np.dtype(dtype)) == expected


@pytest.mark.parametrize("axes", LAYOUTS)
@pytest.mark.parametrize("name", ["zarr", "robomimic"])
def test_a_look_at_a_dataset_names_the_line_that_reads_depth(
    name: str, axes: str, tmp_path: Path
) -> None:
    path = WRITERS[name](tmp_path, LAYOUTS[axes](DEPTH))
    contents = DATASET_FORMATS.get(name).contents(path)
    array = contents.stored["depth"]
    assert not array.is_camera and "dataset.depth={depth: [nearest, farthest]}" in array.not_read
    assert "depth" not in contents.low_dimensional
