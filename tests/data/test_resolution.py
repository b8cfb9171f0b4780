"""Numbers that float32 cannot tell apart: found, and normalised as if they lay at zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.resolution import (
    CONSTANT_RANGE,
    ENOUGH_LEVELS,
    coarse_elements,
    levels,
    needs_float64,
)
from lfm_policy.errors import InputError

STEPS = 400


def waves(offset: float, amplitude: float, phase: float = 0.0) -> np.ndarray:
    """Return (STEPS, 1) float64 about an offset."""
    return offset + amplitude * np.sin(np.linspace(phase, phase + 7, STEPS))[:, None]


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        (4.2e6 - 0.5, 4.2e6 + 0.5, np.float32, 2),
        (-4.2e6, -4.2e6 + 1, np.float32, 2),
        (1.0, 1.5, np.float32, 2**22),
        (2.0, 3.0, np.float16, 512),
        (4.2e6, 4.2e6 + 1, np.float64, 2**30),
        (3, 10, np.int64, 7),
    ],
)
def test_levels(low: float, high: float, dtype: type, expected: float) -> None:
    assert levels(np.array([low]), np.array([high]), dtype).tolist() == [expected]


@settings(deadline=None, max_examples=200)
@given(
    offset=st.floats(-1e12, 1e12),
    amplitude=st.floats(1e-3, 1e3),
    mode=st.sampled_from(["limits", "standard"]),
)
def test_normalised_values_do_not_depend_on_the_offset(
    offset: float, amplitude: float, mode: str
) -> None:
    """What moves looks the same to a network wherever it lies."""
    here, there = waves(0, amplitude), waves(offset, amplitude)
    # What float64 itself has lost of it, and at worst float32 of what is near enough to stay.
    lost = max(np.spacing(abs(offset) + amplitude) / amplitude, 1 / ENOUGH_LEVELS)
    normalized = [
        Normalizer.fit({"x": array}, mode).normalize("x", torch.from_numpy(array)).numpy()
        for array in (here, there)
    ]
    np.testing.assert_allclose(normalized[1], normalized[0], atol=4 * lost)


@settings(deadline=None, max_examples=200)
@given(offset=st.floats(-1e12, 1e12), amplitude=st.floats(1e-3, 1e3))
def test_round_trip(offset: float, amplitude: float) -> None:
    array = waves(offset, amplitude)
    normalizer = Normalizer.fit({"x": array})
    x = torch.from_numpy(array)
    back = normalizer.unnormalize("x", normalizer.normalize("x", x)).numpy()
    wide = needs_float64(array)
    assert (back.dtype == np.float64) == wide == (normalizer["x"].origin is not None)
    resolution = np.spacing(abs(offset) + amplitude) + 1e-6 * amplitude
    error = 2 * resolution if wide else 4e-3 * amplitude
    np.testing.assert_allclose(back, array, rtol=0, atol=error)


def test_only_the_elements_that_need_it_have_an_origin() -> None:
    array = np.concatenate([waves(0.5, 1), waves(4.2e6, 0.05), waves(1.7e9, 300)], axis=1)
    array = np.concatenate([array, np.full((STEPS, 1), 4.2e6)], axis=1)
    stats = Normalizer.fit({"x": array})["x"]
    assert stats.origin is not None and stats.origin.dtype == torch.float64
    np.testing.assert_allclose(stats.origin, [0, 4.2e6, 1.7e9, 0], atol=1e-2)
    np.testing.assert_allclose(stats.raw("min"), array.min(0))
    np.testing.assert_allclose(stats.raw("max"), array.max(0))


def test_ordinary_numbers_have_none_and_stay_as_they_were() -> None:
    """Bit for bit: scale and offset are what they are without any of this."""
    array = np.concatenate([waves(250, 200), waves(0.9, 0.09)], axis=1).astype(np.float32)
    stats = Normalizer.fit({"x": array})["x"]
    low, high = array.astype(np.float64).min(0), array.astype(np.float64).max(0)
    assert stats.origin is None and set(stats.tensors()) == {
        *("scale", "offset", "min", "max", "mean", "std")
    }
    np.testing.assert_array_equal(stats.scale, (1 / ((high - low) / 2)).astype(np.float32))
    centre = (low + high) / 2
    np.testing.assert_array_equal(stats.offset, (-centre / ((high - low) / 2)).astype(np.float32))


def test_integers_far_away_are_told_apart() -> None:
    ticks = (2**40 + np.arange(STEPS) % 7)[:, None]
    y = Normalizer.fit({"x": ticks}).normalize("x", torch.from_numpy(ticks))
    assert len(torch.unique(y)) == 7


@pytest.mark.parametrize("how", ["identity", "unscaled"])
def test_numbers_that_may_not_be_moved_are_refused(how: str) -> None:
    array = np.concatenate([waves(0, 1), waves(5e5, 0.05)], axis=1)
    with pytest.raises(
        InputError, match=r"'x' is not to be normalised.*element 1 goes from 499999"
    ):
        if how == "identity":
            Normalizer.fit({"x": array}, "identity")
        else:
            Normalizer.fit({"x": array}, "limits", {"x": (1,)})


def test_origins_are_kept_in_files() -> None:
    normalizer = Normalizer.fit({"x": waves(4.2e6, 0.05), "y": waves(0, 1)})
    tensors = normalizer.state_tensors()
    assert "x/origin" in tensors and "y/origin" not in tensors
    x = torch.from_numpy(waves(4.2e6, 0.04))
    again = Normalizer.from_tensors(tensors)
    assert torch.equal(again.normalize("x", x), normalizer.normalize("x", x))
    for broken in (tensors["x/origin"].float(), torch.zeros(2, dtype=torch.float64)):
        with pytest.raises(InputError, match=r"'x/origin' is torch.float.*expected torch.float64"):
            Normalizer.from_tensors({**tensors, "x/origin": broken})
    with pytest.raises(InputError, match="'x/origin' holds NaN"):
        Normalizer.from_tensors({**tensors, "x/origin": tensors["x/origin"] * float("nan")})


def test_what_the_file_has_lost_is_found() -> None:
    lost = waves(5e5, 0.05).astype(np.float32)
    assert len(np.unique(lost)) < 16
    assert coarse_elements(lost) == [0]
    assert coarse_elements(waves(5e5, 0.05)) == []
    # A flag, a nearly constant sensor and whole numbers are what they are.
    assert coarse_elements((waves(0, 1) > 0).astype(np.float32)) == []
    assert coarse_elements(waves(7.5, CONSTANT_RANGE / 3).astype(np.float32)) == []
    assert coarse_elements(waves(1e9, 3).astype(np.int64)) == []


def test_fingerprints_tell_apart_what_training_does() -> None:
    ends = np.array([STEPS])
    prints = [
        ReplayBuffer({"action": waves(4.2e6, 0.05, phase)}, ends).fingerprint() for phase in (0, 1)
    ]
    assert prints[0] != prints[1]
    # Ordinary numbers: the same whatever they are stored in.
    buffer = ReplayBuffer({"action": waves(0, 1).astype(np.float32)}, ends)
    wider = replace(buffer, arrays={"action": buffer.arrays["action"].astype(np.float64)})
    assert buffer.fingerprint() == wider.fingerprint()
