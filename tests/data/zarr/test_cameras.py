"""Cameras of zarr stores in every layout: the same frames, and what was done is said."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tools.convert import convert
from lfm_policy.data.zarr import reader as zarr_reader
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import list_zarr, load_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

N, HEIGHT, WIDTH = 24, 20, 18
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
    "floats-first": (
        FRAMES.transpose(0, 3, 1, 2).astype(np.float32),
        FRAMES,
        "camera: channels first (3, 20, 18), read as (20, 18, 3)",
    ),
}


def make_store(path: Path, images: np.ndarray) -> Path:
    root = zarr.create_group(path, zarr_format=2)
    rng = np.random.default_rng(1)
    root.create_array("data/action", data=rng.normal(size=(N, 2)))
    root.create_array("data/state", data=rng.integers(0, 9, (N, 6), np.uint8))
    root.create_array("data/camera", data=images, chunks=(5, *images.shape[1:]))
    root.create_array("meta/episode_ends", data=np.array([10, N]))
    return path


def load(path: Path, cache: Path, **options: object) -> ReplayBuffer:
    config = ZarrConfig(path=str(path), obs_keys=["camera", "state"], **options)  # type: ignore[arg-type]
    return config.load(cache)


@pytest.mark.parametrize("case", CASES)
def test_training_sees_the_same_frames(tmp_path: Path, case: str) -> None:
    stored, frames, remark = CASES[case]
    path = make_store(tmp_path / "demo.zarr", stored)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        buffer = load(path, tmp_path / "cache")
    assert [str(w.message) for w in caught] == ([f"{path}: {remark}"] if remark else [])
    assert isinstance(buffer.arrays["camera"], np.memmap)
    np.testing.assert_array_equal(buffer.arrays["camera"], frames)
    assert buffer.arrays["state"].shape == (N, 6)  # uint8 numbers are no image
    plain = ReplayBuffer({**buffer.arrays, "camera": frames}, buffer.episode_ends)
    assert buffer.fingerprint() == plain.fingerprint()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        some = load(path, tmp_path / "cache", max_episodes=1)
    np.testing.assert_array_equal(some.arrays["camera"], frames[:10])


@pytest.mark.parametrize("case", CASES)
def test_inspect_and_convert_say_it_and_see_the_same(tmp_path: Path, case: str) -> None:
    stored, frames, remark = CASES[case]
    path = make_store(tmp_path / "demo.zarr", stored)
    inspection = inspect_dataset(path)
    assert inspection.notes == ([remark] if remark else [])
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


def test_a_fourth_channel_that_is_not_opaque_stays(tmp_path: Path) -> None:
    images = RGBA.copy()
    images[0, 0, 0, 3] = 12
    path = make_store(tmp_path / "demo.zarr", images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(path, tmp_path / "cache").arrays["camera"]
    np.testing.assert_array_equal(found, images)


def test_a_fourth_channel_that_is_opaque_only_at_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = RGBA.copy()
    images[-1, 3, 4, 3] = 9
    path = make_store(tmp_path / "demo.zarr", images)
    monkeypatch.setattr(zarr_reader, "_PART_BYTES", 1)  # so that the first part is one chunk
    with (
        pytest.warns(AssumptionWarning, match="without alpha"),
        pytest.raises(InputError, match="data/camera: the fourth channel is 255 .* down to 9 in"),
    ):
        load(path, tmp_path / "cache")


def test_the_caches_of_two_layouts_are_two(tmp_path: Path) -> None:
    """The same file names, sizes and times, another order of the axes."""
    square = FRAMES[:, :18]
    for name, images in (("a", square), ("b", square.transpose(0, 3, 1, 2))):
        path = make_store(tmp_path / name / "demo.zarr", images)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = load(path, tmp_path / "cache").arrays["camera"]
        np.testing.assert_array_equal(found, square)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.filterwarnings("ignore:.*channels first")
def test_channels_first_shares_of_255_are_refused_like_any(tmp_path: Path) -> None:
    path = make_store(tmp_path / "demo.zarr", np.random.rand(N, 3, HEIGHT, WIDTH))
    with pytest.raises(InputError, match="data/camera: .*multiply them by 255"):
        load(path, tmp_path / "cache")
