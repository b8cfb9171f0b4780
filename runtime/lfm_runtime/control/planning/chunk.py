"""A chunk of actions, what asks for one and what answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    """A chunk that is wanted.

    Attributes:
        number: 0, 1, ... within the run.
        step: the step that its first action is for: how many planned actions had been executed.
        asked_at: time of the observation, in seconds.
        obs: history by name, each (n_obs_steps, *shape).
        prefix: (d, action_dim) actions for the steps from ``step`` on that are executed
            whatever the answer is; d may be 0.
    """

    number: int
    step: int
    asked_at: float
    obs: Mapping[str, np.ndarray]
    prefix: np.ndarray


@dataclass(frozen=True)
class Answer:
    """What became of a request: either actions or an error.

    Attributes:
        request: what was asked.
        actions: (n, action_dim) for the steps from ``request.step`` on.
        error: what the policy raised.
        answered_at: time in seconds.
    """

    request: Request
    actions: np.ndarray | None
    error: BaseException | None
    answered_at: float


@dataclass(frozen=True)
class Chunk:
    """Actions on which the robot may act.

    Attributes:
        number: of its request.
        start: step that ``actions[0]`` is for.
        actions: (n, action_dim), finite.
        observed_at: time of the observation behind it, in seconds.
    """

    number: int
    start: int
    actions: np.ndarray
    observed_at: float

    def __len__(self) -> int:
        return len(self.actions)

    def at(self, step: int) -> np.ndarray | None:
        """Return the action for a step, (action_dim,); None outside the chunk."""
        index = step - self.start
        return self.actions[index] if 0 <= index < len(self.actions) else None
