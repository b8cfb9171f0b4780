"""Rounding that never says what is not so; numbers with their units."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.text.numbers import counted, duration, percent, rounded, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.93, "0.93"),
        (0.994, "0.99"),
        (0.9951, "0.995"),
        (0.99996, "0.99996"),
        (0.99999999, "0.999999"),
        (1.0, "1.00"),
        (1.003, "1.003"),
        (1.006, "1.01"),
        (0.0, "0.00"),
        (0.001, "0.00"),
        (-3.456, "-3.46"),
        (1234.5, "1234.50"),
        (math.inf, "inf"),
    ],
)
def test_a_reward_below_success_does_not_look_like_it(value: float, text: str) -> None:
    assert rounded(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (1.0, "100%"),
        (0.5, "50%"),
        (199 / 200, "99.5%"),
        (1 / 300, "0.3%"),
        (1 / 2000, "0.1%"),
        (1 - 1e-9, "99.9999%"),
        (1e-9, "0.0001%"),
    ],
)
def test_all_and_nothing_are_said_of_nothing_else(share: float, text: str) -> None:
    assert percent(share) == text


@given(st.floats(-10, 10), st.integers(0, 4))
def test_the_side_of_the_limit_is_kept_and_the_value_nearly(value: float, digits: int) -> None:
    shown = float(rounded(value, digits, limits=(0.0, 1.0)))
    for limit in (0.0, 1.0):
        assert (shown > limit) == (value > limit) and (shown < limit) == (value < limit)
    assert abs(shown - value) <= 0.5 * 10.0**-digits + 1e-9


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.00012, "0.12 ms"),
        (0.0624, "62 ms"),
        (0.0996, "0.1 s"),
        (1.26, "1.3 s"),
        (39.4, "39 s"),
        (119.6, "2 min"),
        (3570, "1 h"),
        (4200, "1 h 10 min"),
        (3600 * 30, "30 h"),
        (86400 * 4, "4 days"),
    ],
)
def test_durations_have_two_digits(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [(10, "less than 1 MB"), (1.24e6, "1.2 MB"), (640e6, "640 MB"), (12.4e9, "12 GB")],
)
def test_sizes(n_bytes: float, words: str) -> None:
    assert size(n_bytes) == words


@pytest.mark.parametrize(
    ("count", "unit", "words"),
    [(1, "step", "1 step"), (30_000, "step", "30,000 steps"), (2.4, "batch", "2 batches")],
)
def test_units_are_counted(count: float, unit: str, words: str) -> None:
    assert counted(count, unit) == words
