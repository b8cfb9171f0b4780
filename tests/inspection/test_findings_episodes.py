"""Warnings about whole episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection import findings as module
from lfm_policy.inspection.findings import find_duplicate_episodes, find_short_episodes
from lfm_policy.inspection.ranges import Ranges

Values = Callable[[ReplayBuffer], tuple[ReplayBuffer, dict[str, Ranges]]]


def test_short_episodes(good: ReplayBuffer) -> None:
    assert find_short_episodes(good) == []
    ends = np.array([15, 31, 40, *good.episode_ends[1:]])
    (finding,) = find_short_episodes(replace(good, episode_ends=ends))
    assert finding.facts == {"episodes": [0, 2], "lengths": [15, 9], "left_out": 0}
    assert "2 of 10 episodes are shorter than 16 steps: 0 (15 steps), 2 (9 steps)" in (
        finding.message
    )
    ends = np.array([7, 15, 40, *good.episode_ends[1:]])
    (finding,) = find_short_episodes(replace(good, episode_ends=ends))
    assert finding.facts == {"episodes": [0, 1], "lengths": [7, 8], "left_out": 1}
    assert "leaves out those of fewer than 8 steps (1)" in finding.message


def pairs(buffer: ReplayBuffer, values: Values) -> list[list[int]]:
    return [f.facts["episodes"] for f in find_duplicate_episodes(*values(buffer))]


def test_copies(good: ReplayBuffer, values: Values) -> None:
    copied = good.select_episodes([0, 1, 2, 3, 1, 5, 6, 0])
    assert pairs(copied, values) == [[0, 7], [1, 4]]
    finding = find_duplicate_episodes(*values(copied))[0]
    assert finding.facts["lengths"] == [40, 40] and finding.facts["distance"] == 0
    assert "episodes 0 and 7 (40 and 40 steps) are the same: " in finding.message


@pytest.mark.parametrize(("share", "found"), [(0.005, [[2, 8]]), (0.05, [])])
def test_noisy_copies(
    good: ReplayBuffer, values: Values, share: float, found: list[list[int]]
) -> None:
    copied = good.select_episodes([*range(8), 2])
    noise = np.random.default_rng(1).normal(scale=share, size=(45, 2))
    copied.arrays["position"][-45:] += noise * np.ptp(copied.arrays["position"], axis=0)
    assert pairs(copied, values) == found
    for finding in find_duplicate_episodes(*values(copied)):
        assert f"differs by more than {finding.facts['distance']:.2%} of its range" in (
            finding.message
        )


def test_a_copy_at_another_rate() -> None:
    time = np.linspace(0, 6, 121)[:, None]
    curves = [np.sin(time + phase) for phase in (0.0, 1.0, 2.0)]
    episodes = [*curves, curves[1][::2]]
    buffer = ReplayBuffer(
        {"action": np.concatenate(episodes)}, np.cumsum([len(episode) for episode in episodes])
    )
    findings = find_duplicate_episodes(buffer, {"action": Ranges.of(buffer.arrays["action"])})
    assert [finding.facts["episodes"] for finding in findings] == [[1, 3]]
    assert findings[0].facts["lengths"] == [121, 61]


def test_one_dimension_that_differs_is_enough(good: ReplayBuffer, values: Values) -> None:
    copied = good.select_episodes([*range(8), 2])
    assert pairs(copied, values) == [[2, 8]]
    copied.arrays["gripper"][-45:] = 1 - copied.arrays["gripper"][-45:]
    assert pairs(copied, values) == []


def test_limits(good: ReplayBuffer, values: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = good.select_episodes([0, 0, 0, 1, 2, 0])
    assert pairs(copied, values) == [[0, 1], [0, 2], [0, 5], [1, 2], [1, 5], [2, 5]]
    monkeypatch.setattr(module, "_ROWS", 2)  # the table of distances in parts
    assert pairs(copied, values) == [[0, 1], [0, 2], [0, 5], [1, 2], [1, 5], [2, 5]]
    monkeypatch.setattr(module, "COMPARED_EPISODES", 5)
    assert pairs(copied, values) == [[0, 1], [0, 2], [1, 2]]
    monkeypatch.setattr(module, "REPORTED_PAIRS", 2)
    assert pairs(copied, values) == [[0, 1], [0, 2]]


def test_nothing_moves() -> None:
    buffer = ReplayBuffer({"action": np.zeros((40, 2))}, np.array([20, 40]))
    assert find_duplicate_episodes(buffer, {"action": Ranges.of(buffer.arrays["action"])}) == []


def test_thousands_of_episodes_need_little_memory() -> None:
    walks = np.random.default_rng(0).normal(size=(3000, 20, 6)).cumsum(axis=1)
    walks[1999] = walks[5]
    walks[2500] = walks[6]  # not among the first 2000
    buffer = ReplayBuffer({"action": walks.reshape(-1, 6)}, np.arange(1, 3001) * 20)
    findings = find_duplicate_episodes(buffer, {"action": Ranges.of(buffer.arrays["action"])})
    assert [finding.facts["episodes"] for finding in findings] == [[5, 1999]]
