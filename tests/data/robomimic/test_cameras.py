"""Cameras of robomimic files in every layout: the same frames, and what was done is said."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.tools.convert import convert
from lfm_policy.data.zarr.store import load_zarr
from lfm_policy.errors import InputError
from lfm_policy.inspection import inspect_dataset

LENGTHS = {"demo_0": 14, "demo_1": 10}
N, HEIGHT, WIDTH = sum(LENGTHS.values()), 20, 18
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
    "rgba": (RGBA, FRAMES, "camera: RGBA (20, 18, 4), read as (20, 18, 3) without alpha"),
    "rgba-first": (
        RGBA.transpose(0, 3, 1, 2),
        FRAMES,
        "camera: channels first (4, 20, 18), read as (20, 18, 3) without alpha",
    ),
}


def make_file(path: Path, images: np.ndarray) -> Path:
    rng = np.random.default_rng(1)
    begin = 0
    with h5py.File(path, "w") as file:
        for demo, length in LENGTHS.items():
            file[f"data/{demo}/actions"] = rng.uniform(-1, 1, (length, 2))
            file[f"data/{demo}/obs/state"] = rng.integers(0, 9, (length, 6), np.uint8)
            file.create_dataset(
                f"data/{demo}/obs/camera", data=images[begin : begin + length], compression="gzip"
            )
            begin += length
    return path


@pytest.mark.parametrize("case", CASES)
def test_training_inspect_and_convert_see_the_same_frames(tmp_path: Path, case: str) -> None:
    stored, frames, remark = CASES[case]
    path = make_file(tmp_path / "demo.hdf5", stored)
    said = [f"{path}: {remark}"] if remark else []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        buffer = RobomimicConfig(path=str(path)).load(tmp_path / "cache")
    assert [(w.category, str(w.message)) for w in caught] == [(AssumptionWarning, s) for s in said]
    assert isinstance(buffer.arrays["camera"], np.memmap)
    np.testing.assert_array_equal(buffer.arrays["camera"], frames)
    assert buffer.arrays["state"].shape == (N, 6)  # uint8 numbers are no image

    inspection = inspect_dataset(path)
    assert [note for note in inspection.notes if "camera" in note] == said
    assert inspection.cameras["camera"].frame_shape == frames.shape[1:]
    assert set(inspection.buffer.arrays) == {"action", "state"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        convert(path, tmp_path / "out.zarr")
    found = load_zarr(tmp_path / "out.zarr", ["camera"]).arrays["camera"]
    np.testing.assert_array_equal(found, frames)


def test_a_fourth_channel_that_is_not_opaque_stays(tmp_path: Path) -> None:
    images = RGBA.copy()
    images[0, 0, 0, 3] = 12
    path = make_file(tmp_path / "demo.hdf5", images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = RobomimicConfig(path=str(path)).load(tmp_path / "cache").arrays["camera"]
    np.testing.assert_array_equal(found, images)


def test_a_fourth_channel_that_a_later_demo_uses_is_refused(tmp_path: Path) -> None:
    images = RGBA.copy()
    images[-1, 3, 4, 3] = 9
    path = make_file(tmp_path / "demo.hdf5", images)
    with (
        pytest.warns(AssumptionWarning, match="without alpha"),
        pytest.raises(InputError, match=rf"{list(LENGTHS)[-1]}: obs/camera: the fourth .* to 9 in"),
    ):
        RobomimicConfig(path=str(path)).load(tmp_path / "cache")


def test_depth_with_channels_first_is_left_out_or_refused(tmp_path: Path) -> None:
    path = make_file(tmp_path / "demo.hdf5", np.ones((N, 1, HEIGHT, WIDTH), np.uint16))
    with pytest.warns(UserWarning, match=r"left out: camera \(has uint16 \(1, 20, 18\) per step"):
        buffer = RobomimicConfig(path=str(path)).load()
    assert set(buffer.arrays) == {"action", "state"}
    with pytest.raises(InputError, match=r"obs/camera has uint16 \(1, 20, 18\) per step"):
        RobomimicConfig(path=str(path), obs_keys=["camera"]).load()
