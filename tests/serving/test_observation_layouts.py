"""Layouts of other projects' clients, as one frame and as a history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lfm_policy.serving.observations import ConnectionHistory, arranged
from lfm_runtime.errors import InputError
from lfm_runtime.policy.spec import DataSpec

N_OBS_STEPS = 2
SIZE = st.integers(1, 6)
CHANNELS = st.sampled_from([1, 3, 4])
LEADING = st.sampled_from([(), (N_OBS_STEPS,)])


def image(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)


def read(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    return arranged("camera", value, shape, n_obs_steps=N_OBS_STEPS)


@given(SIZE, SIZE, CHANNELS, LEADING)
def test_an_image_with_channels_first_is_the_same_image(
    height: int, width: int, channels: int, leading: tuple[int, ...]
) -> None:
    shape = (height, width, channels)
    expected = image(*leading, *shape)
    np.testing.assert_array_equal(read(expected, shape), expected)
    first = np.moveaxis(expected, -1, -3)
    # What fits as it is stays as it is; a history that looks like a frame is a frame.
    assume(first.shape not in (shape, (N_OBS_STEPS, *shape)))
    np.testing.assert_array_equal(read(first, shape), expected)
    if channels == 1 and expected.shape[:-1] not in (shape, (1, *shape[:2]), (2, *shape)):
        np.testing.assert_array_equal(read(expected[..., 0], shape), expected)


@pytest.mark.parametrize("shape", [(3, 3, 3), (3, 5, 3), (3, 3, 5, 3)[1:]])
def test_what_fits_as_it_is_stays_as_it_is(shape: tuple[int, ...]) -> None:
    given_image = image(*shape)
    assert read(given_image, shape) is given_image


@given(SIZE, SIZE, LEADING, st.booleans(), st.sampled_from(["<f2", "<f4", "<f8", ">f4"]))
def test_floats_become_bytes_as_openpi_makes_them(
    height: int, width: int, leading: tuple[int, ...], first: bool, dtype: str
) -> None:
    shape = (height, width, 3)
    floats = np.linspace(0, 1, int(np.prod((*leading, *shape)))).astype(dtype)
    floats = floats.reshape(*leading, *shape)
    expected = (255 * floats).astype(np.uint8)
    assert expected.max() == (255 if floats.size > 1 else 0)
    given_floats = np.moveaxis(floats, -1, -3) if first else floats
    assume(given_floats.shape == floats.shape or given_floats.shape not in (shape, (2, *shape)))
    assume(not first or given_floats.shape != floats.shape)
    found = read(given_floats, shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("low", "high", "what"),
    [
        (0, 255, "from 0 to 255, expected uint8 of 0 to 255, or floats in"),
        (-1, 1, "from -1 to 1"),
        (0, 1.001, "from 0 to 1.001"),
        (0, np.nan, "contains NaN or infinity"),
        (0, np.inf, "contains NaN or infinity"),
    ],
)
def test_floats_outside_0_to_1_are_refused(low: float, high: float, what: str) -> None:
    values = np.full((2, 4, 3), low, dtype=np.float64)
    values[0, 0, 0] = high
    with pytest.raises(InputError, match=what):
        read(values, (2, 4, 3))


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        (np.array(7.0), (1,), [7.0]),
        (np.float32(7), (1,), [7.0]),
        (7, (1,), [7]),
        ([7, 8], (1,), [[7], [8]]),  # a history
        (np.array([7.0]), (), 7.0),
        ([[7], [8]], (), [7, 8]),
        (np.array([7.0]), (1,), [7.0]),
        (np.array(7.0), (), 7.0),
        ([7, 8], (), [7, 8]),
        ([[7], [8]], (1,), [[7], [8]]),
    ],
)
def test_a_number_and_a_list_of_one(value: Any, shape: tuple[int, ...], expected: Any) -> None:
    found = read(value, shape)
    assert found.shape == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (np.zeros(3), (1,)),
        (np.zeros(()), (3,)),
        (np.zeros((1, 1)), (1,)),
        (np.zeros((1, 3)), (3,)),
        (np.zeros((3, 1)), (3,)),
        (np.zeros((3, 7)), (7, 3)),  # rows and columns are not exchanged
        (np.zeros((5, 4, 3), np.uint8), (4, 5, 3)),  # nor height and width
        (np.zeros((4, 3, 5), np.uint8), (4, 5, 3)),
    ],
)
def test_nothing_else_is_rearranged(value: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="has shape"):
        read(value, shape)


@pytest.mark.parametrize("found", [(224, 320, 3), (3, 224, 320), (2, 224, 320, 3)])
def test_names_both_sizes_of_an_image(found: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        read(np.zeros(found, np.uint8), (96, 128, 3))
    text = str(caught.value)
    assert f"has shape {found}, expected (96, 128, 3), or (2, 96, 128, 3) with its history" in text
    assert "an image 224 high and 320 wide, expected 96 high and 128 wide; resize it" in text


@pytest.mark.parametrize(
    "value", [["a", "b"], [1, "a"], [[1], ["a"]], [np.array(["a"]), 1], [b"a"], (1, (2, b"a"))]
)
def test_lists_with_texts_are_no_numbers(value: Any) -> None:
    with pytest.raises(InputError, match="'camera' is a list with texts, expected numbers"):
        read(value, (2,))


def test_none_is_called_none() -> None:
    with pytest.raises(InputError, match="observation 'camera' is None, expected numbers"):
        read(None, (4, 5, 3))


def test_a_frame_is_its_own_history_where_one_is_seen() -> None:
    spec = DataSpec({"state": (3,), "gripper": ()}, 1)
    history = ConnectionHistory(spec, 1)
    found = history.add({"state": [1, 2, 3], "gripper": [4]})
    np.testing.assert_array_equal(found["state"], [[1, 2, 3]])
    np.testing.assert_array_equal(found["gripper"], [4])
