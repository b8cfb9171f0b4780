"""Known chunks have known errors, spreads and joins."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_policy.checking.demonstrations import Instants, instants_of
from lfm_policy.checking.open_loop import errors_of, open_loop, reference_chunks
from lfm_policy.checking.samples import joins_of, spread_of

from .conftest import N_ACTION, KnownPolicy, ramps, units_of


def test_errors_of_an_offset(instants: Instants) -> None:
    truth = instants.demonstrated
    samples = np.stack([truth + 2.0, truth - 1.0])
    loop = open_loop(samples, instants, units_of(scale=0.5), np.zeros(truth.shape[1:]))
    # One sample on average 1.5 beside, their mean 0.5, the better one 1.
    assert loop.sample.mean == pytest.approx(0.75) and loop.sample.per_dim[0] == pytest.approx(1.5)
    assert loop.mean_of_samples.per_dim[0] == pytest.approx(0.5)
    assert loop.best_of_samples.per_dim[0] == pytest.approx(1.0)
    assert loop.sample.interval == pytest.approx((0.75, 0.75))
    assert loop.sample.per_step == pytest.approx(np.full(5, 0.75))
    # In four episodes, without the first instant of each.
    assert len(loop.sample.per_episode) == 4 and loop.n_instants == 12


def test_repeating_the_last_action(instants: Instants) -> None:
    truth = instants.demonstrated
    loop = open_loop(truth[None], instants, units_of(), np.zeros(truth.shape[1:]))
    repeat = loop.baselines["repeat"]
    # On a ramp of slope 1, k steps ahead are k beside.
    assert repeat.per_step == pytest.approx([1, 2, 3, 4, 5])
    assert repeat.per_step_dim[:, 0] == pytest.approx([1, 2, 3, 4, 5])
    # Instants at 3 and 6 execute three actions, that at 9 two of 11: (6 + 6 + 3) / 8.
    assert repeat.mean == pytest.approx(15 / 8)
    # Ahead: 5 + 5 + 2 actions.
    assert repeat.ahead == pytest.approx(np.full(4, (15 + 15 + 3) / 12))
    assert loop.sample.mean == 0
    difference, interval = loop.sample.minus(repeat)
    assert difference == pytest.approx(-15 / 8) and interval == pytest.approx((-15 / 8, -15 / 8))


def test_mean_chunk(instants: Instants) -> None:
    policy = KnownPolicy()
    chunks = reference_chunks(instants.buffer, np.arange(2), policy)
    assert chunks.shape[1:] == (6, 1)
    truth = instants.demonstrated
    loop = open_loop(truth[None], instants, units_of(), chunks.mean(0))
    expected = errors_of(np.abs(chunks.mean(0) - truth), instants, units_of(), instants.started)
    assert loop.baselines["mean"].mean == pytest.approx(expected.mean) and expected.mean > 5


def test_zeros_are_a_baseline_where_zero_is_an_action(instants: Instants) -> None:
    truth, nothing = instants.demonstrated, np.zeros(instants.demonstrated.shape[1:])
    names = open_loop(truth[None], instants, units_of(low=1.0), nothing).baselines
    assert set(names) == {"repeat", "mean"}
    around = open_loop(truth[None], instants, units_of(low=-1.0), nothing).baselines
    assert set(around) == {"repeat", "mean", "zero"}
    assert around["zero"].mean == pytest.approx(around["mean"].mean)  # whose chunk is zero, too


def test_episodes_of_one_chunk_have_nothing_to_repeat() -> None:
    buffer = ramps(length=3)
    instants = instants_of(buffer, np.arange(4), KnownPolicy())
    truth = instants.demonstrated
    loop = open_loop(truth[None] + 1, instants, units_of(), np.zeros(truth.shape[1:]))
    assert set(loop.baselines) == {"mean", "zero"} and loop.n_instants == 4
    assert loop.sample.mean == pytest.approx(1)
    # No episode has a fourth action.
    assert loop.to_dict()["errors"]["sample"]["per_step"] == pytest.approx([1, 1, 1, None, None])
    assert joins_of(truth[None], instants, units_of(), N_ACTION) is None


def test_long_episodes_count_as_much_as_short_ones() -> None:
    buffer = ramps(2, 20)
    buffer.episode_ends[0] = 8
    instants = instants_of(buffer, np.arange(2), KnownPolicy())
    error = np.where(instants.episode == 0, 1.0, 3.0)[:, None, None]
    error = np.broadcast_to(error, instants.demonstrated.shape)
    found = errors_of(error, instants, units_of(), instants.started)
    assert found.per_episode == pytest.approx([1, 3]) and found.mean == pytest.approx(2)


def test_spread(instants: Instants) -> None:
    truth = instants.demonstrated
    generator = np.random.default_rng(0)
    demonstrated_like = truth + 2.0 * generator.normal(size=(4000, *truth.shape))
    # Drawn around the truth itself: all the error is spread.
    found = spread_of(demonstrated_like, instants, units_of())
    assert found.per_dim[0] == pytest.approx(2, rel=0.02) and found.share == pytest.approx(1, 0.02)
    assert found.of_data[0] == pytest.approx(0.2, rel=0.02)
    # The mean as far beside as the samples are apart, as if both were drawn from one distribution.
    beside = spread_of(demonstrated_like + 2.0, instants, units_of())
    assert beside.share == pytest.approx(0.5, abs=0.02)
    same = spread_of(np.stack([truth + 1, truth + 1]), instants, units_of())
    assert same.share == 0 and same.per_dim[0] == 0


def test_joins(instants: Instants) -> None:
    truth = instants.demonstrated
    exact = joins_of(truth[None], instants, units_of(scale=0.5), N_ACTION)
    assert exact is not None and exact.n == 12
    assert exact.policy[0] == exact.demonstrated[0] == exact.inside[0] == 1 and exact.ratio == 1
    # Chunks that start 2 below and end 2 above: on a ramp of slope 1, back by 3.
    tilted = truth.copy()
    tilted[:, 1] -= 2
    tilted[:, 3] += 2
    found = joins_of(tilted[None], instants, units_of(), N_ACTION)
    assert found is not None and found.policy[0] == pytest.approx(3) and found.ratio == 3
    assert found.inside[0] == pytest.approx(3)
