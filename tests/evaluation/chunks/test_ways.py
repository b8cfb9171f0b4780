"""Mixtures of known shares, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_policy.evaluation.chunks import kept_ways, relative_spread, two_ways
from lfm_policy.evaluation.chunks.ways import SEPARATED

Draw = np.ndarray


def mixture(share: float, apart: float, n: int, dims: int, seed: int = 0) -> Draw:
    """Return samples of two normal distributions of deviation 1, a share ``apart`` further on."""
    generator = np.random.default_rng(seed)
    direction = np.ones(dims) / np.sqrt(dims)
    second = np.arange(n) < round(share * n)
    return generator.normal(size=(n, dims)) + apart * second[:, None] * direction


@pytest.mark.parametrize("dims", [1, 2, 16])
@pytest.mark.parametrize("share", [0.5, 0.3, 0.15])
def test_shares_and_separation_of_a_mixture(share: float, dims: int) -> None:
    found = two_ways(mixture(share, 8.0, 20_000, dims))
    assert found is not None and found.apart
    assert found.rarer == pytest.approx(share, abs=2e-3)
    assert found.separation == pytest.approx(8, rel=0.02)
    assert found.means[1] - found.means[0] == pytest.approx(8, rel=0.02)
    sides = found.shares(mixture(share, 8.0, 20_000, dims, seed=1))
    assert sorted(sides[:2]) == pytest.approx([share, 1 - share], abs=0.01)
    # Beyond a third of the way of 8 deviations there is one of 261 samples.
    assert sides[2] == pytest.approx(0.0038, abs=2e-3)


@pytest.mark.parametrize(
    ("kind", "separation"),
    [("normal", 2 / np.sqrt(np.pi / 2 - 1)), ("uniform", 2 * np.sqrt(3))],
)
def test_halves_of_one_way_are_no_two_ways(kind: str, separation: float) -> None:
    generator = np.random.default_rng(0)
    draw = {"normal": generator.normal, "uniform": generator.uniform}[kind]
    many = two_ways(draw(size=(100_000, 1)))
    assert many is not None and many.separation == pytest.approx(separation, rel=0.02)
    assert separation < SEPARATED
    few = [two_ways(draw(size=(64, 1))) for _ in range(300)]
    assert np.mean([way is not None and way.apart for way in few]) < 0.02


def test_outliers_are_no_way() -> None:
    samples = np.random.default_rng(0).normal(size=(64, 4))
    samples[:3, 0] += 100
    found = two_ways(samples)
    assert found is not None and found.separation > SEPARATED and not found.apart


def test_points_have_ways_without_a_width() -> None:
    assert two_ways(np.ones((64, 3))) is None and two_ways(np.ones((1, 3))) is None
    found = two_ways(np.repeat([[0.0, 0.0], [3.0, 4.0]], [48, 16], axis=0))
    assert found is not None and found.apart and found.rarer == 0.25
    assert found.means[1] - found.means[0] == pytest.approx(5)


def test_what_becomes_of_two_ways() -> None:
    one_way = np.random.default_rng(1).normal(size=(64, 16))
    reference = [mixture(0.4, 10.0, 64, 16, seed) for seed in range(10)]
    ways = [two_ways(samples) for samples in [*reference, one_way]]

    def kept(*samples: np.ndarray) -> tuple[float, float, float]:
        found = kept_ways(np.stack([*samples, one_way], 1), ways)
        assert found.n_two_ways == 10 and found.n_instants == 11
        return found.kept, found.rarer, found.between

    again = [mixture(0.4, 10.0, 64, 16, seed) for seed in range(20, 30)]
    assert kept(*again) == pytest.approx((1, 26 / 64, 0), abs=5e-3)
    # One way alone at half of the instants, the middle at the others: neither keeps both.
    single = [mixture(0.0, 10.0, 64, 16, seed) for seed in range(5)]
    middle = [mixture(0.0, 0.0, 64, 16, seed) * 0.1 + 5 / 4 for seed in range(5)]
    assert kept(*single, *middle) == pytest.approx((0, 0, 0.5), abs=5e-3)
    rare = [mixture(k / 64, 10.0, 64, 16, k) for k in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]
    assert kept(*rare) == pytest.approx((0.7, 5.5 / 64, 0), abs=5e-3)


def test_no_instant_with_two_ways() -> None:
    samples = np.random.default_rng(1).normal(size=(64, 3, 2))
    found = kept_ways(samples, [two_ways(samples[:, at]) for at in range(3)])
    assert found.to_dict() == {
        "n_two_ways": 0,
        "n_instants": 3,
        "kept": 0.0,
        "rarer": 0.0,
        "between": 0.0,
    }


def test_spread_over_that_of_a_reference() -> None:
    reference = np.random.default_rng(0).normal(size=(64, 5, 4))
    assert relative_spread(0.6 * reference + 7, reference) == pytest.approx(0.6)
    assert relative_spread(reference, 0 * reference) == 0
