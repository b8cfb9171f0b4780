"""Distributions of the training time t in [0, 1] (t = 0 data side, t = 1 noise side)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.registry import Registry


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
        concentration[0], concentration[1] = self.alpha, self.beta
        gammas = torch._standard_gamma(concentration, generator=generator)
        x, y = gammas.clamp_(min=torch.finfo(gammas.dtype).tiny)  # 0 / 0 for tiny parameters
        return x / (x + y)


TIME_SAMPLERS: Registry[Callable[..., TimeSampler]] = Registry(
    "time sampler", {"uniform": UniformTime, "beta": BetaTime}
)
