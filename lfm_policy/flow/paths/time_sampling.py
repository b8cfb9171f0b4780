"""Distributions of the training time t in [0, 1] (t = 0 data side, t = 1 noise side)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lfm_policy.errors import InputError


class TimeSampler(Protocol):
    """Draws training times."""

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return ``n`` times, shape (n,), from ``generator`` or torch's global one."""


@dataclass(frozen=True)
class UniformTime:
    """t ~ U[0, 1)."""

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return ``n`` times, shape (n,)."""
        return torch.rand(n, generator=generator, device=device, dtype=dtype)


@dataclass(frozen=True)
class BetaTime:
    """t ~ Beta(alpha, beta), density proportional to t**(alpha-1) * (1-t)**(beta-1).

    alpha > beta favours the noise side, alpha < beta the data side; both 1 is uniform.

    Raises:
        InputError: ``alpha`` or ``beta`` is not a finite positive number.
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        """Check both parameters."""
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"Beta time: {name} is {value}; expected a number above 0")

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return ``n`` times, shape (n,), as X / (X + Y) of two gamma variates."""
        # torch.distributions.Beta takes no generator; the function under it does.
        concentration = torch.empty((2, n), device=device, dtype=dtype)
        concentration[0].fill_(self.alpha)
        concentration[1].fill_(self.beta)
        gammas = torch._standard_gamma(concentration, generator=generator)
        x, y = gammas.clamp_(min=torch.finfo(gammas.dtype).tiny)  # 0 / 0 for tiny parameters
        return x / (x + y)


@dataclass(frozen=True)
class NoiseEndTimes:
    """t = 1 with the probability ``share``, and else a time of another distribution.

    A block that is run in one evaluation is asked at t = 1 and nowhere else; one that is also to be
    pushed forward through, or run in more evaluations, has to know its velocity elsewhere too.

    Raises:
        InputError: ``share`` is not in [0, 1].
    """

    share: float
    others: TimeSampler

    def __post_init__(self) -> None:
        """Check the share."""
        if not 0 <= self.share <= 1:
            raise InputError(f"share of times at the noise is {self.share}; expected 0 to 1")

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return ``n`` times, shape (n,)."""
        times = self.others.sample(n, generator=generator, device=device, dtype=dtype)
        drawn = torch.rand(n, generator=generator, device=device, dtype=dtype)
        return torch.where(drawn < self.share, torch.ones_like(times), times)


@dataclass(frozen=True)
class PointTimes:
    """t is one of a few given times, each as often as the others.

    Raises:
        InputError: there is no time, or one is outside [0, 1].
    """

    points: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the times."""
        object.__setattr__(self, "points", tuple(float(point) for point in self.points))
        if not self.points or not all(0 <= point <= 1 for point in self.points):
            raise InputError(
                f"times of training: points are {list(self.points)}; expected at least one number "
                "from 0 to 1"
            )

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Return ``n`` times, shape (n,)."""
        drawn = torch.randint(len(self.points), (n,), generator=generator, device=device)
        times = torch.full((n,), self.points[0], device=device, dtype=dtype)
        for number, point in enumerate(self.points[1:], start=1):
            times = times.masked_fill(drawn == number, point)  # no copy of them to a GPU
        return times
