"""Time and loss, measured without slowing the training down."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor


class Clock:
    """Wall-clock seconds, added to what earlier parts of the run took."""

    def __init__(self, before: float) -> None:
        self._before = before
        self._start = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Do not count what has just taken so long."""
        self._before -= seconds

    def seconds(self) -> float:
        """Return the seconds so far."""
        return self._before + time.perf_counter() - self._start


class RunningMean:
    """Mean loss since the last look, summed on the device so that a GPU need not wait."""

    def __init__(self, device: torch.device) -> None:
        self._sum = torch.zeros((), device=device)
        self._count = 0

    def add(self, loss: Tensor) -> None:
        """Add the loss of one step, a scalar."""
        self._sum += loss
        self._count += 1

    def finite(self) -> bool:
        """Whether every loss since the last `take` was a finite number."""
        return math.isfinite(float(self._sum))

    def take(self) -> float:
        """Return the mean and start afresh."""
        mean = float(self._sum) / max(self._count, 1)
        self._sum.zero_()
        self._count = 0
        return mean
