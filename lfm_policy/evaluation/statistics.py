"""Intervals and paired tests for rollouts; the arithmetic is scipy's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # its `stats` take half a second to import: they are when first asked for


class Interval(NamedTuple):
    """Lower and upper end of a 95% interval."""

    low: float
    high: float


def wilson_interval(successes: int, n: int) -> Interval:
    """Return the Wilson 95% interval of a success rate.

    Raises:
        ValueError: ``n`` is not positive or ``successes`` is outside 0..n.
    """
    interval = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Interval(float(interval.low), float(interval.high))


class PairedCounts(NamedTuple):
    """How many of the same episodes two methods solved, and McNemar's exact p value."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def compare_paired(first: Sequence[bool], second: Sequence[bool]) -> PairedCounts:
    """Return who solved which episodes; for ``p_value`` and errors see `mcnemar_exact`."""
    p_value = mcnemar_exact(first, second)
    a, b = _paired(first, second, bool)
    both, only_first, only_second = (int(x.sum()) for x in (a & b, a & ~b, ~a & b))
    neither = len(a) - both - only_first - only_second
    return PairedCounts(both, only_first, only_second, neither, p_value)


def mcnemar_exact(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the two-sided p value of McNemar's exact test on paired successes.

    Only episodes that one method solves and the other does not carry information; without any,
    p is 1.

    Raises:
        ValueError: the sequences differ in length, or an outcome is not known.
    """
    if any(outcome is None for outcome in (*first, *second)):
        raise ValueError("an outcome is None: the environment did not report success")
    a, b = _paired(first, second, bool)
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(scipy.stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def paired_bootstrap(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the bootstrap 95% interval of mean(first - second) over paired episodes.

    Raises:
        ValueError: the sequences differ in length or are empty.
    """
    a, b = _paired(first, second, float)
    return bootstrap_mean(a - b)


def bootstrap_mean(values: Sequence[float] | np.ndarray) -> Interval:
    """Return the bootstrap 95% interval of a mean, of 10,000 resamples of a fixed seed.

    Raises:
        ValueError: there are no values.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 1 or len(numbers) == 0:
        raise ValueError(f"expected one or more numbers, found shape {numbers.shape}")
    if np.ptp(numbers) == 0:
        return Interval(float(numbers[0]), float(numbers[0]))
    result = scipy.stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        # All at once would take 240 MB for 3,000 episodes, and twice as long.
        batch=100,
        rng=np.random.default_rng(0),
    )
    return Interval(*map(float, result.confidence_interval))


def _paired(
    first: Sequence[Any], second: Sequence[Any], kind: type
) -> tuple[np.ndarray, np.ndarray]:
    a: np.ndarray = np.asarray(first, dtype=kind)
    b: np.ndarray = np.asarray(second, dtype=kind)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise ValueError(
            f"paired results must have equal lengths of at least 1, found {a.shape} and {b.shape}"
        )
    return a, b
