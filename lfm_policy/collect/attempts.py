"""Attempts under way, wherever they run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from lfm_policy.data.robomimic.demos import Demo, DemoRecording

MAXIMUM_CRASHES = 3
"""Crashes during one episode after which it is given up."""


class Attempts(ABC):
    """Runs attempts to demonstrate a task, some at the same time.

    Attributes:
        crashes: how often what ran an attempt died.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._running: dict[Any, int] = {}
        self._crashed: Counter[int] = Counter()
        self.crashes = 0

    @property
    def running(self) -> set[int]:
        """Seeds of the attempts that are under way."""
        return set(self._running.values())

    @property
    def busy(self) -> bool:
        """Whether as many attempts as wanted are under way."""
        return len(self._running) >= self._number

    @abstractmethod
    def submit(self, seed: int) -> None:
        """Start an attempt."""

    @abstractmethod
    def collect(self, timeout: float) -> list[tuple[int, bool]]:
        """Return the attempts that have ended by now: seed and whether it succeeded.

        Args:
            timeout: how long to wait for the first, in seconds.

        Raises:
            CollectError: an episode has crashed `MAXIMUM_CRASHES` times.
            InputError: the environment cannot be made.
        """

    @abstractmethod
    def close(self, *, now: bool = False) -> None:
        """End; with ``now``, in the middle of what is under way."""


def keep(recording: DemoRecording, seed: int, demo: Demo | None) -> bool:
    """Add the demo of an attempt, or mark its failure (None); returns whether there is a demo."""
    if demo is None:
        recording.skip(seed, "no success")
        return False
    recording.add(seed, demo)
    return True
