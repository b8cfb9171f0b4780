"""Successes of some episodes, as pages say them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from lfm_policy.evaluation import mcnemar_exact, wilson_interval
from resultpages.numbers import three


class _Counts(Protocol):
    @property
    def solved(self) -> int: ...

    @property
    def n(self) -> int: ...


class Rated:
    """What is said of anything that knows ``solved`` of ``n`` episodes."""

    @property
    def rate(self: _Counts) -> float:
        return self.solved / self.n

    @property
    def limits(self: _Counts) -> tuple[float, float]:
        return _wilson(self.solved, self.n)

    @property
    def success(self: _Counts) -> str:
        return three(self.solved / self.n)

    @property
    def counts(self: _Counts) -> str:
        return f"{self.solved:,}/{self.n:,}"

    @property
    def interval(self: _Counts) -> str:
        return " to ".join(map(three, _wilson(self.solved, self.n)))


@dataclass(frozen=True)
class Rollouts:
    """Episodes that are known one by one.

    Attributes:
        cell: what was measured, with ``episodes``.
    """

    cell: dict[str, Any]

    def column(self, name: str) -> list[Any]:
        return [episode[name] for episode in self.cell["episodes"]]

    def p_against(self, other: Rollouts) -> float:
        """Return McNemar's exact p against another on the same episodes."""
        return float(mcnemar_exact(self.column("success"), other.column("success")))


@dataclass(frozen=True)
class Rate(Rated):
    """How many of some episodes succeeded, where only the number is known.

    Attributes:
        solved: number of successes.
        n: number of episodes.
    """

    solved: int
    n: int


@cache
def _wilson(successes: int, n: int) -> tuple[float, float]:
    low, high = wilson_interval(successes, n)
    return low, high
