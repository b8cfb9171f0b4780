"""Arrays that cannot be read: named with the reason, and never in the way of the others."""

from __future__ import annotations

import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tools.convert import ConvertOptions, convert
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import list_zarr, load_zarr, write_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

N = 20
JPEGXL = "imagecodecs_jpegxl"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.normal(size=(N, 2)),
        "state": rng.normal(size=(N, 5)),
        "camera0_rgb": rng.integers(0, 256, (N, 24, 32, 3), np.uint8),
    }
    write_zarr(tmp_path / "demo.zarr", ReplayBuffer(arrays, np.array([7, N])))
    return tmp_path / "demo.zarr"


def edit(store: Path, key: str, **changes: Any) -> None:
    path = store / "data" / key / ".zarray"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def umi(store: Path) -> Path:
    """A store whose camera is encoded as UMI's data sets encode theirs."""
    edit(store, "camera0_rgb", compressor={"id": JPEGXL, "effort": 3, "distance": 0.3})
    return store


@pytest.fixture
def without_imagecodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "imagecodecs.numcodecs", None)
    monkeypatch.delitem(numcodecs.registry.codec_registry, JPEGXL, raising=False)


def test_the_package_that_reads_a_codec_is_named(umi: Path, without_imagecodecs: None) -> None:
    assert set(list_zarr(umi).readable) == {"action", "state"}
    camera = list_zarr(umi).unreadable["camera0_rgb"]
    assert (camera.shape, camera.dtype) == ((N, 24, 32, 3), "uint8")
    with pytest.raises(InputError) as caught:
        ZarrConfig(path=str(umi), obs_keys=["camera0_rgb", "state"]).load()
    message = str(caught.value)
    assert f"{umi}: data/camera0_rgb: its values are encoded by the codec '{JPEGXL}'" in message
    assert "pip install imagecodecs" in message
    assert "damaged" not in message and "copy the store again" not in message


def test_an_unread_array_is_not_in_the_way(
    umi: Path, without_imagecodecs: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer = ZarrConfig(path=str(umi), obs_keys=["state"]).load()
        convert(umi, tmp_path / "some.zarr", ConvertOptions(obs_keys=["state"]))
    assert buffer.n_steps == N
    with pytest.warns(UserWarning, match=f"data/camera0_rgb is left out: .*{JPEGXL}"):
        assert set(convert(umi, tmp_path / "all.zarr").shapes) == {"action", "state"}
    inspection = inspect_dataset(umi)
    assert set(inspection.buffer.arrays) == {"action", "state"}
    (finding,) = (f for f in inspection.warnings if f.kind == "unusable_array")
    assert "camera0_rgb is not usable" in finding.message
    assert "pip install imagecodecs" in finding.message
    described = inspection.to_dict()["arrays"]["camera0_rgb"]
    assert described == {"shape": [N, 24, 32, 3], "dtype": "uint8"}
    inspection.print()
    assert "not usable: see below" in " ".join(capsys.readouterr().out.split())


def test_an_installed_package_is_told_to_numcodecs(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Stub(numcodecs.Blosc):
        codec_id = JPEGXL

    def register_codecs(codecs: tuple[str, ...], *, verbose: bool) -> None:
        assert codecs == (JPEGXL,) and not verbose
        numcodecs.register_codec(Stub)

    package, module = types.ModuleType("imagecodecs"), types.ModuleType("imagecodecs.numcodecs")
    module.register_codecs = register_codecs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "imagecodecs", package)
    monkeypatch.setitem(sys.modules, "imagecodecs.numcodecs", module)
    monkeypatch.setattr(
        numcodecs.registry, "codec_registry", dict(numcodecs.registry.codec_registry)
    )
    config = ZarrConfig(path=str(store), obs_keys=["camera0_rgb"])
    expected = config.load(tmp_path / "a").arrays["camera0_rgb"]
    metadata = json.loads((store / "data/camera0_rgb/.zarray").read_text())
    edit(store, "camera0_rgb", compressor={**metadata["compressor"], "id": JPEGXL})
    np.testing.assert_array_equal(config.load(tmp_path / "b").arrays["camera0_rgb"], expected)


@pytest.mark.parametrize("suffix", [".zarr", ".zarr.zip"])
def test_a_real_jpeg_xl_camera(store: Path, tmp_path: Path, suffix: str) -> None:
    imagecodecs = pytest.importorskip("imagecodecs.numcodecs")
    imagecodecs.register_codecs((JPEGXL,), verbose=False)
    path = tmp_path / f"umi{suffix}"
    images = zarr.open_array(store, path="data/camera0_rgb", mode="r")[...]
    opened = zarr.storage.ZipStore(path, mode="w") if suffix == ".zarr.zip" else path
    root = zarr.create_group(opened, zarr_format=2)
    root.create_array("data/action", data=np.ones((N, 2)))
    root.create_array("meta/episode_ends", data=np.array([7, N]))
    codec = imagecodecs.Jpegxl(lossless=True, numthreads=1)
    options: dict[str, Any] = {"compressors": codec, "chunks": (1, 24, 32, 3)}
    root.create_array("data/camera0_rgb", data=images, **options)
    if suffix == ".zarr.zip":
        opened.close()
    buffer = ZarrConfig(path=str(path), obs_keys=["camera0_rgb"]).load(tmp_path / "cache")
    np.testing.assert_array_equal(buffer.arrays["camera0_rgb"], images)


# --- whatever an array nobody asked for may be ---------------------------------------------------


def text(root: zarr.Group) -> None:
    root.create_array("odd", data=np.full((N, 1), "grasp"))


def text_of_any_length(root: zarr.Group) -> None:
    root.create_array("odd", shape=(N,), dtype=str)[...] = np.array(["grasp"] * N, dtype=object)


def bytes_of_a_length(root: zarr.Group) -> None:
    root.create_array("odd", data=np.full((N, 1), b"grasp"))


def complex_numbers(root: zarr.Group) -> None:
    root.create_array("odd", data=np.ones((N, 2), np.complex64))


def fields(root: zarr.Group) -> None:
    root.create_array("odd", data=np.zeros((N,), [("x", "f4"), ("y", "i2")]))


def times(root: zarr.Group) -> None:
    root.create_array("odd", data=np.zeros((N, 1), "datetime64[ns]"))


def other_length(root: zarr.Group) -> None:
    root.create_array("odd", data=np.ones((3, 3)))


def scalar(root: zarr.Group) -> None:
    root.create_array("odd", data=np.float32(3))


def four_ranks(root: zarr.Group) -> None:
    root.create_array("odd", data=np.ones((N, 4, 4, 7), np.float32))


def no_values(root: zarr.Group) -> None:
    root.create_array("odd", shape=(N, 0), dtype="f4")


def not_finite(root: zarr.Group) -> None:
    root.create_array("odd", data=np.full((N, 2), np.nan))


ODD = {
    make.__name__: make
    for make in (
        *(text, text_of_any_length, bytes_of_a_length, complex_numbers, fields, times),
        *(other_length, scalar, four_ranks, no_values, not_finite),
    )
}
STAYS_IN_CONVERSIONS = "not_finite"
"""A defect of the values, which a conversion does not drop in silence."""


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.filterwarnings("ignore:.*codecs.*:UserWarning")
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("version", [2, 3])
def test_odd_arrays(store: Path, tmp_path: Path, kind: str, version: int) -> None:
    path = tmp_path / "odd.zarr"
    root = zarr.create_group(path, zarr_format=version)
    for name in ("action", "state"):
        values = zarr.open_array(store, path=f"data/{name}", mode="r")[...]
        root.create_array(f"data/{name}", data=values)
    root.create_array("meta/episode_ends", data=np.array([7, N]))
    root.create_array("meta/notes", data=np.zeros(5))
    root.create_array("extra/table", data=np.zeros((2, 2), np.complex64))
    ODD[kind](root["data"])

    buffer = ZarrConfig(path=str(path), obs_keys=["state"]).load()
    assert list(buffer.arrays) == ["action", "state"]

    inspection = inspect_dataset(path)
    assert set(inspection.buffer.arrays) == {"action", "state"}
    (finding,) = (f for f in inspection.warnings if f.kind == "unusable_array")
    assert finding.facts["key"] == "odd" and "damaged" not in finding.message
    assert "{" not in finding.message  # a name, not the whole of its metadata
    assert "odd" in inspection.to_dict()["arrays"]
    json.dumps(inspection.to_dict())

    if kind != STAYS_IN_CONVERSIONS:
        with pytest.warns(UserWarning, match=f"data/odd is left out: {path}: data/odd"):
            converted = convert(path, tmp_path / "converted.zarr")
        assert set(converted.shapes) == {"action", "state"}

    with pytest.raises(InputError, match="odd") as caught:
        ZarrConfig(path=str(path), obs_keys=["state", "odd"]).load()
    assert "damaged" not in str(caught.value) and str(path) in str(caught.value)


def truncated(folder: Path) -> None:
    chunk = folder / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:-7])


def nonsense(folder: Path) -> None:
    (folder / ".zarray").write_text("{")


def unknown_codec(folder: Path) -> None:
    edit(folder.parents[1], "unused", compressor={"id": "zfpy"})


@pytest.mark.parametrize("damage", [truncated, nonsense, unknown_codec])
def test_a_damaged_array_that_nobody_asked_for(store: Path, tmp_path: Path, damage: Any) -> None:
    zarr.open_group(store / "data").create_array(
        "unused", data=np.random.default_rng(3).normal(size=(N, 3)), compressors=numcodecs.Blosc()
    )
    damage(store / "data/unused")
    assert load_zarr(store, ["state", "action"]).n_steps == N
    inspection = inspect_dataset(store)
    assert set(inspection.buffer.arrays) == {"action", "state"} and inspection.cameras
    assert [f.facts["key"] for f in inspection.warnings if f.kind == "unusable_array"] == ["unused"]
    with pytest.raises(InputError, match="data/unused|of data/unused"):
        ZarrConfig(path=str(store), obs_keys=["unused"]).load()


def test_a_codec_of_version_3_that_nobody_knows(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "v3.zarr"
    root = zarr.create_group(path, zarr_format=3)
    for name in ("action", "state"):
        root.create_array(f"data/{name}", data=np.ones((N, 2)) * np.arange(N)[:, None] + 1)
    root.create_array("meta/episode_ends", data=np.array([N]))
    file = path / "data/state/zarr.json"
    metadata = json.loads(file.read_text())
    metadata["codecs"][-1] = {"name": "numcodecs.pcodec", "configuration": {}}
    file.write_text(json.dumps(metadata))
    problem = list_zarr(path).unreadable["state"].not_read
    assert "data/state: the codec 'pcodec' is not read here" in problem
    assert set(inspect_dataset(path).buffer.arrays) == {"action"}


def test_nothing_is_left(store: Path) -> None:
    for key in ("action", "state"):
        edit(store, key, compressor={"id": "zfpy"})
    with pytest.raises(InputError, match="holds no low-dimensional array under data/"):
        inspect_dataset(store)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    dtype=st.sampled_from(
        [
            *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
            *("float16", "float32", "float64", ">f4", ">i2"),
        ]
    ),
    version=st.sampled_from([2, 3]),
    seed=st.integers(0, 9),
)
def test_every_kind_of_number_is_read(
    dtype: str, version: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "demo.zarr"
    values = (np.random.default_rng(seed).normal(size=(N, 3)) * 50).astype("i1").astype(dtype)
    root = zarr.create_group(path, zarr_format=version)
    root.create_array("data/action", data=np.arange(2 * N).reshape(N, 2) / 2 + 1)
    root.create_array("data/state", data=values)
    root.create_array("meta/episode_ends", data=np.array([N]))
    found = ZarrConfig(path=str(path), obs_keys=["state"]).load().arrays["state"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.dtype(dtype) or found.dtype == np.dtype(dtype).newbyteorder("=")
