"""Time as the control loop sees it: the machine's, or a simulated one that never waits."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that never go back, and waiting."""

    def now(self) -> float:
        """Return the time in seconds; where 0 is has no meaning."""

    def sleep_until(self, moment: float) -> None:
        """Wait until ``now() >= moment``; return at once if that is so already."""


class RealClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Return the time in seconds."""
        return time.monotonic()

    def sleep_until(self, moment: float) -> None:
        """Wait until ``moment``."""
        left = moment - time.monotonic()
        if left > 0:
            time.sleep(left)


class SimulatedClock:
    """Stands still except when somebody sleeps, so that an hour of control takes no time."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Return the simulated time in seconds."""
        return self._now

    def sleep_until(self, moment: float) -> None:
        """Jump to ``moment``."""
        self._now = max(self._now, moment)

    def advance(self, seconds: float) -> None:
        """Let time pass, as a slow call would."""
        self._now += max(seconds, 0.0)
