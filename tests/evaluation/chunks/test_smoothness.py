"""Jerk and steps of actions that are known, at joins and inside chunks."""

from __future__ import annotations

import numpy as np
import pytest

from lfm_policy.evaluation.chunks import smoothness_of

N = 8


@pytest.mark.parametrize("hz", [10.0, 50.0])
def test_a_sine_has_the_jerk_of_a_sine(hz: float) -> None:
    # 40 whole periods of sin(w t), which chunks do not divide, and a dimension at rest. The third
    # derivative is -w^3 cos(w t); differences of step h have (sin(w h / 2) / (w h / 2))^3 of it.
    w = 2 * np.pi * hz / 83
    t = np.arange(83 * 40) / hz
    found = smoothness_of([np.stack([np.sin(w * t), 0 * t], 1)], n_action_steps=N, hz=hz)
    half = w / hz / 2
    expected = w**3 / np.sqrt(2) * (np.sin(half) / half) ** 3
    assert found.jerk_at_joins == pytest.approx(expected, rel=2e-2)
    assert found.jerk_inside == pytest.approx(expected, rel=2e-2)
    assert found.jerk_ratio == pytest.approx(1, abs=0.03)
    assert found.step_ratio == pytest.approx(1, abs=0.01)
    assert found.n_joins == 414


def test_a_cubic_has_its_third_derivative_everywhere() -> None:
    t = np.arange(33) / 10
    found = smoothness_of([2 * t[:, None] ** 3], n_action_steps=N, hz=10)
    assert found.jerk_at_joins == pytest.approx(12) and found.jerk_inside == pytest.approx(12)


@pytest.mark.parametrize("n_dims", [1, 2, 7])
def test_a_jump_at_every_join(n_dims: int) -> None:
    # Chunks stand still; between them all dimensions jump by 3. Third differences that see a jump
    # are 1, -2 and 1 times it.
    chunk = np.arange(5 * N) // N
    actions = np.repeat(3.0 * chunk[:, None], n_dims, 1)
    found = smoothness_of([actions, actions[:N]], n_action_steps=N, hz=10)
    size = 3 * np.sqrt(n_dims)
    assert found.jerk_at_joins == pytest.approx(np.sqrt(2) * size * 1e3)
    assert found.jerk_inside == pytest.approx(0, abs=1e-6)
    assert found.step_at_joins == pytest.approx(size) and found.step_inside == 0
    assert found.jerk_ratio is None and found.step_ratio is None  # nothing to compare with
    assert found.n_joins == 4


def test_only_differences_across_a_join_count_as_such() -> None:
    actions = np.arange(4.0 * N)[:, None]
    actions[N + 4] += 1  # in the middle of the second chunk
    found = smoothness_of([actions], n_action_steps=N, hz=1)
    # Of four differences that see it, 1, -3, 3, -1 times 1, the last one reaches no join.
    assert found.jerk_at_joins == pytest.approx(0, abs=1e-9)
    assert found.jerk_inside == pytest.approx(np.sqrt(20 / (4 * (N - 3))))
    assert found.step_at_joins == 1


def test_episodes_are_not_joined_and_short_ones_have_no_jerk() -> None:
    found = smoothness_of([np.zeros((3, 1)), np.ones((2, 1))], n_action_steps=N, hz=10)
    assert found.jerk_inside is None and found.jerk_at_joins is None
    assert found.step_inside == 0 and found.step_at_joins is None and found.n_joins == 0
    single = smoothness_of([np.arange(6.0)[:, None]], n_action_steps=1, hz=10)
    assert single.step_inside is None and single.step_at_joins == 1
    assert smoothness_of([], n_action_steps=N, hz=10).n_joins == 0
