"""Keep an environment still after the end of its episode."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs


class FreezeAfterEnd(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """After the end of an episode, every step returns the end again until ``reset``.

    In a batch of environments some finish earlier than others, and all are stepped together. A
    frozen one returns its last observation and information, reward 0 and the ``terminated`` and
    ``truncated`` it ended with; nothing in it moves, and no action is looked at. It must be the
    outermost wrapper that can end an episode (outside the time limit).
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap ``env``."""
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._end: tuple[Any, bool, bool, dict[str, Any]] | None = None

    @property
    def frozen(self) -> bool:
        """Whether the episode has ended and the environment waits for ``reset``."""
        return self._end is not None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the environment moves again."""
        result = self.env.reset(seed=seed, options=options)
        self._end = None
        return result

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, or return the end of its episode again with reward 0."""
        if self._end is not None:
            # A copy, so that a caller who writes into an observation cannot change the end.
            obs, ended, out_of_time, last_info = copy.deepcopy(self._end)
            return obs, 0.0, ended, out_of_time, last_info
        obs, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self._end = copy.deepcopy((obs, bool(terminated), bool(truncated), info))
        return obs, float(reward), terminated, truncated, info
