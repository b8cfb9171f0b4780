"""Rounding that never says what is not so."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.text.numbers import percent, rounded


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
