"""A robot that notes whether it moves, and to which things happen meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

END = 400


class MovingRobot:
    """Lets something happen before some ticks; ends when it has moved often enough after the last.

    Attributes:
        ticks: how often it was asked what it sees.
        actions: what it was told, by tick.
        stops: how often it was stopped.
    """

    simulated = True

    def __init__(
        self, obs: dict[str, np.ndarray], events: dict[int, Callable[[], Any]], *, moves: int = 10
    ) -> None:
        self._obs = obs
        self._events = events
        self._moves = moves
        self.ticks = 0
        self.actions: dict[int, np.ndarray] = {}
        self.stops = 0

    @property
    def done(self) -> bool:
        moved = sum(tick > max(self._events) for tick in self.moved())
        return self.ticks >= END or moved > self._moves

    def moved(self) -> list[int]:
        """Return the ticks whose action was another one than before."""
        told = sorted(self.actions.items())
        pairs = zip(told, told[1:], strict=False)
        return [tick for (_, old), (tick, new) in pairs if not np.array_equal(old, new)]

    def observe(self) -> Mapping[str, Any]:
        self.ticks += 1
        self._events.get(self.ticks, lambda: None)()
        return self._obs

    def act(self, action: np.ndarray) -> None:
        self.actions[self.ticks] = action.copy()

    def stop(self) -> None:
        self.stops += 1
