"""Successes of which only the number is known, and not every episode."""

from __future__ import annotations

from dataclasses import dataclass

from lfm_policy.evaluation import wilson_interval
from resultpages.numbers import three


@dataclass(frozen=True)
class Rate:
    """How many of some episodes succeeded.

    Attributes:
        solved: number of successes.
        n: number of episodes.
    """

    solved: int
    n: int

    @property
    def rate(self) -> float:
        return self.solved / self.n

    @property
    def limits(self) -> tuple[float, float]:
        low, high = wilson_interval(self.solved, self.n)
        return low, high

    @property
    def success(self) -> str:
        return three(self.rate)

    @property
    def counts(self) -> str:
        return f"{self.solved:,}/{self.n:,}"

    @property
    def interval(self) -> str:
        return " to ".join(map(three, self.limits))
