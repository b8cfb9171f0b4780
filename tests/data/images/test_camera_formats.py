"""Cameras in every layout and several formats: the same frames, and what was done is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import zarr

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.tools.convert import convert
from lfm_policy.data.zarr import reader as zarr_reader
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import list_zarr, load_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

LENGTHS = (14, 10)
N, HEIGHT, WIDTH = sum(LENGTHS), 20, 18
FRAMES = np.random.default_rng(0).integers(0, 255, (N, HEIGHT, WIDTH, 3), np.uint8)
RGBA = np.concatenate([FRAMES, np.full_like(FRAMES[..., :1], 255)], axis=3)
CASES = {
    "plain": (FRAMES, FRAMES, ""),
    "first": (
        FRAMES.transpose(0, 3, 1, 2),
        FRAMES,
        "camera: channels first (3, 20, 18), read as (20, 18, 3)",
    ),
    "grey": (FRAMES[..., 0], FRAMES[..., :1], "camera: grey (20, 18), read as (20, 18, 1)"),
    "grey-first": (
        FRAMES[:, None, ..., 0],
        FRAMES[..., :1],
        "camera: channels first (1, 20, 18), read as (20, 18, 1)",
    ),
    "rgba": (RGBA, FRAMES, "camera: RGBA (20, 18, 4), read as (20, 18, 3) without alpha"),
    "rgba-first": (
        RGBA.transpose(0, 3, 1, 2),
        FRAMES,
        "camera: channels first (4, 20, 18), read as (20, 18, 3) without alpha",
    ),
    "floats": (FRAMES + np.float32(0.4), FRAMES, ""),
    "floats-first": (
        FRAMES.transpose(0, 3, 1, 2).astype(np.float32),
        FRAMES,
        "camera: channels first (3, 20, 18), read as (20, 18, 3)",
    ),
}


def write_robomimic(path: Path, images: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    begin = 0
    with h5py.File(path, "w") as file:
        for n, length in enumerate(LENGTHS):
            file[f"data/demo_{n}/actions"] = rng.uniform(-1, 1, (length, 2))
            file[f"data/demo_{n}/obs/state"] = rng.integers(0, 9, (length, 6), np.uint8)
            file.create_dataset(
                f"data/demo_{n}/obs/camera", data=images[begin : begin + length], compression="gzip"
            )
            begin += length


def write_store(path: Path, images: np.ndarray) -> None:
    root = zarr.create_group(path, zarr_format=2)
    rng = np.random.default_rng(1)
    root.create_array("data/action", data=rng.normal(size=(N, 2)))
    root.create_array("data/state", data=rng.integers(0, 9, (N, 6), np.uint8))
    root.create_array("data/camera", data=images, chunks=(5, *images.shape[1:]))
    root.create_array("meta/episode_ends", data=np.cumsum(LENGTHS))


class Format(NamedTuple):
    """How demonstrations are written, and what reads them."""

    write: Callable[[Path, np.ndarray], None]
    config: Callable[..., Any]
    camera: str
    """What messages call the camera of the last episode."""
    note: str
    """How ``inspect`` says what was done."""

    def file(self, path: Path, images: np.ndarray) -> Path:
        path.parent.mkdir(exist_ok=True)
        self.write(path, images)
        return path

    def load(self, path: Path, cache: Path, **options: Any) -> ReplayBuffer:
        config = self.config(path=str(path), obs_keys=["camera", "state"], **options)
        buffer: ReplayBuffer = config.load(cache)
        return buffer


FORMATS = {
    "demo.hdf5": Format(write_robomimic, RobomimicConfig, "demo_1: obs/camera", "{path}: {remark}"),
    "demo.zarr": Format(write_store, ZarrConfig, "data/camera", "{remark}"),
}
EVERY_CASE = [(name, case) for name in FORMATS for case in CASES]


@pytest.mark.parametrize(("name", "case"), EVERY_CASE)
def test_training_sees_the_same_frames(tmp_path: Path, name: str, case: str) -> None:
    stored, frames, remark = CASES[case]
    path = FORMATS[name].file(tmp_path / name, stored)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        buffer = FORMATS[name].load(path, tmp_path / "cache")
    said = [(AssumptionWarning, f"{path}: {remark}")] if remark else []
    assert [(w.category, str(w.message)) for w in caught] == said
    assert isinstance(buffer.arrays["camera"], np.memmap)
    np.testing.assert_array_equal(buffer.arrays["camera"], frames)
    assert buffer.arrays["state"].shape == (N, 6)  # uint8 numbers are no image
    plain = ReplayBuffer({**buffer.arrays, "camera": frames}, buffer.episode_ends)
    assert buffer.fingerprint() == plain.fingerprint()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        some = FORMATS[name].load(path, tmp_path / "cache", max_episodes=1)
    np.testing.assert_array_equal(some.arrays["camera"], frames[: LENGTHS[0]])


@pytest.mark.parametrize(("name", "case"), EVERY_CASE)
def test_inspect_and_convert_say_it_and_see_the_same(tmp_path: Path, name: str, case: str) -> None:
    stored, frames, remark = CASES[case]
    path = FORMATS[name].file(tmp_path / name, stored)
    inspection = inspect_dataset(path)
    said = [FORMATS[name].note.format(path=path, remark=remark)] if remark else []
    assert [note for note in inspection.notes if "env_args" not in note] == said
    assert inspection.cameras["camera"].frame_shape == frames.shape[1:]
    assert set(inspection.buffer.arrays) == {"action", "state"}
    assert inspection.to_dict()["arrays"]["camera"]["shape"] == list(stored.shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convert(path, tmp_path / "out.zarr")
    assert [str(w.message) for w in caught] == ([f"{path}: {remark}"] if remark else [])
    assert list_zarr(tmp_path / "out.zarr").readable["camera"].shape == frames.shape
    found = load_zarr(tmp_path / "out.zarr", ["camera"]).arrays["camera"]
    np.testing.assert_array_equal(found, frames)


@pytest.mark.parametrize("name", FORMATS)
def test_a_fourth_channel_that_is_not_opaque_stays(tmp_path: Path, name: str) -> None:
    images = RGBA.copy()
    images[0, 0, 0, 3] = 12
    path = FORMATS[name].file(tmp_path / name, images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = FORMATS[name].load(path, tmp_path / "cache").arrays["camera"]
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("name", FORMATS)
def test_a_fourth_channel_that_is_opaque_only_at_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    images = RGBA.copy()
    images[-1, 3, 4, 3] = 9
    path = FORMATS[name].file(tmp_path / name, images)
    monkeypatch.setattr(zarr_reader, "_PART_BYTES", 1)  # so that the first part is one chunk
    message = f"{FORMATS[name].camera}: the fourth channel is 255 .* down to 9 in"
    with (
        pytest.warns(AssumptionWarning, match="without alpha"),
        pytest.raises(InputError, match=message),
    ):
        FORMATS[name].load(path, tmp_path / "cache")


@pytest.mark.parametrize("name", FORMATS)
def test_the_caches_of_two_layouts_are_two(tmp_path: Path, name: str) -> None:
    """The same file names, sizes and times, another order of the axes."""
    square = FRAMES[:, :18]
    for folder, images in (("a", square), ("b", square.transpose(0, 3, 1, 2))):
        path = FORMATS[name].file(tmp_path / folder / name, images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = FORMATS[name].load(path, tmp_path / "cache").arrays["camera"]
        np.testing.assert_array_equal(found, square)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_depth_of_robomimic_with_channels_first_is_left_out_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo.hdf5"
    write_robomimic(path, np.ones((N, 1, HEIGHT, WIDTH), np.uint16))
    with pytest.warns(UserWarning, match=r"left out: camera \(has uint16 \(1, 20, 18\) per step"):
        buffer = RobomimicConfig(path=str(path)).load()
    assert set(buffer.arrays) == {"action", "state"}
    with pytest.raises(InputError, match=r"obs/camera has uint16 \(1, 20, 18\) per step"):
        RobomimicConfig(path=str(path), obs_keys=["camera"]).load()


@pytest.mark.filterwarnings("ignore:.*channels first")
@pytest.mark.parametrize("shape", [(3, HEIGHT, WIDTH), (HEIGHT, WIDTH, 3), (HEIGHT, WIDTH, 1)])
@pytest.mark.parametrize("name", FORMATS)
def test_shares_of_255_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    path = FORMATS[name].file(tmp_path / name, np.random.rand(N, *shape))
    with pytest.raises(InputError, match="/camera: .*multiply them by 255") as error:
        FORMATS[name].load(path, tmp_path / "cache")
    assert ("dataset.depth" in str(error.value)) == (shape[-1] == 1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.random.rand(N, HEIGHT, WIDTH, 3), r"float64 from \S+ to 0.99\d+, not 0 to 255\)"),
        (np.full((N, HEIGHT, WIDTH, 3), -2.0), r"float64 from -2 to -2, not 0 to 255\)"),
        (FRAMES[..., :1] + 0.4, "float64 of one channel; dataset.depth={camera: "),
    ],
)
def test_floats_of_robomimic_that_may_be_no_images_want_to_be_named(
    tmp_path: Path, values: np.ndarray, reason: str
) -> None:
    path = tmp_path / "demo.hdf5"
    write_robomimic(path, values)
    with pytest.warns(UserWarning, match=rf"left out: camera \(holds images of {reason}"):
        assert "camera" not in RobomimicConfig(path=str(path)).load().arrays
