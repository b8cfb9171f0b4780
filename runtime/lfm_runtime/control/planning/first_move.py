"""The way from where a robot stands to the first action of its policy."""

from __future__ import annotations

import numpy as np


class FirstMove:
    """A straight line at an even pace, after which a policy is asked anew from where it ends.

    A policy begins where demonstrations began; the robot may stand anywhere. The line leads to the
    first action, tick by tick; what the policy said at its beginning is over by then.

    Attributes:
        goal: where it leads, (action_dim,); None before it has begun.
        arrived: whether the goal has been reached.
    """

    def __init__(self, ticks: int) -> None:
        """Plan a move of so many ticks, at least 1."""
        self.goal: np.ndarray | None = None
        self.arrived = False
        self._ticks = max(ticks, 1)
        self._done = 0

    def begin(self, position: np.ndarray, goal: np.ndarray) -> None:
        """Start at ``position`` towards ``goal``, both (action_dim,)."""
        self._start, self.goal = np.array(position, dtype=np.float64), np.array(goal)

    def next(self) -> np.ndarray:
        """Return what the robot is to be told in this tick, (action_dim,); in the end the goal."""
        assert self.goal is not None
        self._done += 1
        if self._done >= self._ticks:
            return self.goal
        way = self.goal.astype(np.float64) - self._start
        return (self._start + way * (self._done / self._ticks)).astype(self.goal.dtype)

    def note(self, told: np.ndarray) -> bool:
        """Take what the robot was told, after all limits; return whether that is the goal."""
        assert self.goal is not None
        self.arrived = self._done >= self._ticks and np.array_equal(told, self.goal)
        return self.arrived
