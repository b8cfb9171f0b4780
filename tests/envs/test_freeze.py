"""``FreezeAfterEnd`` on a small counting environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from lfm_envs import FreezeAfterEnd


class Counter(gym.Env[np.ndarray, int]):
    """Observes the number of steps, ends itself after ``length`` of them, pays 1 for each."""

    observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int) -> None:
        self.length = length
        self.count = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.count += 1
        ended = self.count >= self.length
        info = {"success": ended, "coverage": float(self.count)}
        return np.full(1, self.count, np.float32), 1.0, ended, False, info


@pytest.mark.parametrize(
    "length, limit, end", [(3, 10, (True, False)), (10, 3, (False, True)), (3, 3, (True, True))]
)
def test_the_end_is_repeated_without_reward(
    length: int, limit: int, end: tuple[bool, bool]
) -> None:
    env = FreezeAfterEnd(TimeLimit(Counter(length), limit))
    for _ in range(2):  # an episode, and one after reset
        env.reset(seed=0)
        assert not env.frozen
        steps = [env.step(0) for _ in range(6)]
        assert env.unwrapped.count == 3 and env.frozen
        assert [step[1] for step in steps] == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
        assert [step[0].item() for step in steps] == [1, 2, 3, 3, 3, 3]
        assert [step[2:4] for step in steps] == [(False, False)] * 2 + [end] * 4
        assert [step[4]["coverage"] for step in steps] == [1, 2, 3, 3, 3, 3]
        assert steps[-1][4]["success"] is end[0]


def test_what_was_returned_can_be_written_into() -> None:
    env = FreezeAfterEnd(Counter(1))
    env.reset()
    for _ in range(3):
        obs, *_, info = env.step(0)
        assert obs.item() == 1 and info["success"] is True
        obs[:] = 99
        info.clear()


def test_the_action_of_a_frozen_environment_is_not_looked_at() -> None:
    env = FreezeAfterEnd(Counter(1))
    env.reset()
    env.step(0)
    assert env.step(np.full(2, np.nan))[1] == 0.0
