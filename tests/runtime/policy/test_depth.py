"""Distances as grey levels, on a robot as in training; and images of another layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_runtime.errors import InputError
from lfm_runtime.policy.depth import depth_levels
from lfm_runtime.policy.observations import checked_batch, checked_frames
from lfm_runtime.policy.spec import DataSpec

SHAPES = {"rgb": (20, 24, 3), "grey": (20, 24, 1), "depth": (20, 24, 1)}
SPEC = DataSpec(SHAPES, 2, depth={"depth": (200.0, 1500.0)})


def test_levels_of_known_distances() -> None:
    depth = np.array([0, 1, 200, 850, 1500, 65535], np.uint16)
    np.testing.assert_array_equal(depth_levels(depth, 200, 1500), [0, 1, 1, 128, 255, 255])
    metres = np.array([np.nan, -1, 0, 0.2, 0.85, 1.5, np.inf])
    np.testing.assert_array_equal(depth_levels(metres, 0.2, 1.5), [0, 0, 0, 1, 128, 255, 255])


@given(st.floats(0, 1e3), st.floats(1e-2, 1e4), st.lists(st.floats(0, 2e4), min_size=1))
def test_levels_grow_with_the_distance(near: float, width: float, distances: list[float]) -> None:
    depth = np.sort(np.array(distances, np.float32))
    levels = depth_levels(depth, near, near + width)
    assert levels.dtype == np.uint8 and (np.diff(levels.astype(int)) >= 0).all()
    np.testing.assert_array_equal(levels > 0, depth > 0)


def frame(**changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = {key: rng.integers(0, 256, shape, np.uint8) for key, shape in SHAPES.items()}
    return {**images, **changes}


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_a_robot_gives_distances_as_its_camera_does(dtype: str) -> None:
    depth = np.random.default_rng(1).integers(0, 2000, (20, 24)).astype(dtype)
    levels = depth_levels(depth, 200, 1500)[..., None]
    for given_depth in (depth, depth[..., None], depth[None], levels):
        np.testing.assert_array_equal(
            checked_frames(frame(depth=given_depth), SPEC)["depth"], levels
        )
    history = np.stack([depth, depth[::-1]])
    batch = {key: np.stack([image] * 2)[None] for key, image in frame().items()}
    for given_history in (history[None], history[None, ..., None], history[None, :, None]):
        found = checked_batch({**batch, "depth": given_history}, SPEC, n_obs_steps=2)
        np.testing.assert_array_equal(
            found["depth"], depth_levels(history, 200, 1500)[None, ..., None]
        )


def test_depth_survives_being_written_down() -> None:
    assert DataSpec.from_dict(SPEC.to_dict(), "file") == SPEC
    assert SPEC.dtype("depth") == "uint8" and SPEC.numbers("depth") == "depth from 200 to 1500"
    assert "depth" not in DataSpec(SHAPES, 2).to_dict()  # so that other files stay as they were
    for depth, message in (
        ([], "data.depth: expected an object"),
        ({"rgb": [0, 1]}, "names of images of one channel, found rgb"),
        ({"none": [0, 1]}, "names of images of one channel, found none"),
        ({"grey": [1, 1]}, "data.depth.grey: expected two increasing numbers"),
        ({"grey": [0, float("inf")]}, "data.depth.grey: expected two increasing"),
        ({"grey": ["0", 1]}, "data.depth.grey: expected two increasing"),
        ({"grey": 3}, "data.depth.grey: expected two increasing"),
    ):
        with pytest.raises(InputError, match=message):
            DataSpec.from_dict({**SPEC.to_dict(), "depth": depth}, "file")


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("rgb", (3, 20, 24), r"channels come first: give numpy.moveaxis\(image, -3, -1\)"),
        ("rgb", (20, 24, 4), r"alpha: give image\[..., :3\]"),
        ("rgb", (20, 24), r"no axis of channels: give image\[..., None\].repeat\(3, axis=-1\)"),
        ("rgb", (20, 24, 1), r"grey: give image.repeat\(3, axis=-1\)"),
        ("rgb", (40, 48, 3), "40 high and 48 wide, expected 20 high and 24 wide; resize it"),
        ("rgb", (3, 40, 48), "40 high and 48 wide, expected 20 high and 24 wide; resize it"),
        ("grey", (20, 24), r"no axis of channels: give image\[..., None\]$"),
        ("grey", (1, 20, 24), "channels come first"),
        ("grey", (20, 24, 3), "in colours and the demonstrations are grey"),
        ("depth", (10, 24, 1), r"10 high and 24 wide"),
    ],
)
def test_another_layout_is_refused_with_what_mends_it(
    key: str, shape: tuple[int, ...], message: str
) -> None:
    image: Any = np.zeros(shape, np.uint8)
    with pytest.raises(InputError, match=message):
        checked_frames(frame(**{key: image}), SPEC)
    batch = {name: value[None, None] for name, value in frame(**{key: image}).items()}
    with pytest.raises(InputError, match=message):
        checked_batch(batch, SPEC, n_obs_steps=1)
