"""Intervals and tests against written-out formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.evaluation import (
    bootstrap_mean,
    compare_paired,
    mcnemar_exact,
    paired_bootstrap,
    wilson_interval,
)


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_interval_is_the_formula(n: int, share: float) -> None:
    k = round(n * share)
    z, p = 1.959963984540054, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = wilson_interval(k, n)
    assert low == pytest.approx(max(centre - half, 0), abs=1e-9)
    assert high == pytest.approx(min(centre + half, 1), abs=1e-9)


def test_wilson_interval_refuses_more_successes_than_episodes() -> None:
    with pytest.raises(ValueError):
        wilson_interval(3, 2)


def test_paired_counts() -> None:
    first, second = [True, True, False, False, True], [True, False, True, False, False]
    assert compare_paired(first, second) == (1, 2, 1, 1, 1.0)


def test_mcnemar_counts_discordant_pairs_only() -> None:
    # 8 episodes only the first solves, 1 only the second: p = 2 * (C(9,0) + C(9,1)) / 2**9.
    first = [True] * 8 + [False] + [True] * 50 + [False] * 30
    second = [False] * 8 + [True] + [True] * 50 + [False] * 30
    assert mcnemar_exact(first, second) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar_exact(first, first) == 1.0


def test_paired_bootstrap_brackets_a_shift_and_ignores_what_is_common() -> None:
    generator = np.random.default_rng(0)
    common = generator.normal(scale=100, size=400)
    low, high = paired_bootstrap(common + generator.normal(0.5, 0.1, 400), common)
    assert 0.48 < low < 0.5 < high < 0.52
    assert paired_bootstrap(common, common) == (0.0, 0.0)


def test_pairs_must_have_equal_lengths() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        mcnemar_exact([True], [True, False])
    with pytest.raises(ValueError, match="equal lengths"):
        paired_bootstrap([], [])


def test_bootstrap_of_a_mean_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)
    assert bootstrap_mean([0.25]) == (0.25, 0.25)
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        bootstrap_mean([])
