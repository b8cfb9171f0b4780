"""Step sizes of the blocks and the Ornstein-Uhlenbeck transitions that they define.

The diffusion is dX = -X dt + sqrt(2) dW. Over a time gamma it maps
X -> exp(-gamma) X + sqrt(1 - exp(-2 gamma)) Z with Z ~ N(0, I), and keeps N(0, I) as it is
(Xu, Cheng, Xie, "Local Flow Matching Generative Models", arXiv:2410.02548).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lfm_policy.errors import InputError


def geometric_step_sizes(n_blocks: int, c: float, rho: float) -> tuple[float, ...]:
    """Return the paper's schedule gamma_n = c * rho**(n-1) for n = 1..n_blocks-1.

    The last block is free and has no step size, so one block gives an empty tuple.

    Raises:
        InputError: ``n_blocks`` is below 1, or ``c``, ``rho`` or one of the sizes is not a finite
            positive number.
    """
    if n_blocks < 1:
        raise InputError(f"n_blocks is {n_blocks}; expected at least 1")
    for name, value in (("c", c), ("rho", rho)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"step size parameter {name} is {value}; expected a number above 0")
    try:
        sizes = tuple(float(c) * float(rho) ** n for n in range(n_blocks - 1))
    except OverflowError:
        sizes = (math.inf,)
    return _checked_sizes(sizes, origin=f"c={c}, rho={rho}, n_blocks={n_blocks}")


@dataclass(frozen=True)
class OUStep:
    """One transition x_r = decay * x_l + noise_std * z of the diffusion, z ~ N(0, I).

    Attributes:
        gamma: OU time of the step; None for the *free* step, which forgets ``x_l`` (its OU time
            is infinite) and so ends exactly in N(0, I).
        decay: exp(-gamma); 0 for the free step. Called ``a`` in the equations.
        noise_std: sqrt(1 - exp(-2 gamma)); 1 for the free step. Called ``b`` in the equations.
    """

    gamma: float | None
    decay: float = field(init=False)
    noise_std: float = field(init=False)

    def __post_init__(self) -> None:
        """Derive the two factors; raise InputError for a negative or non-finite ``gamma``."""
        if self.gamma is None:
            decay, noise_std = 0.0, 1.0
        elif math.isfinite(self.gamma) and self.gamma >= 0:
            decay = math.exp(-self.gamma)
            noise_std = math.sqrt(-math.expm1(-2.0 * self.gamma))  # expm1: exact for tiny gamma
        else:
            raise InputError(f"OU time gamma is {self.gamma}; expected a finite number, at least 0")
        object.__setattr__(self, "decay", decay)
        object.__setattr__(self, "noise_std", noise_std)

    @property
    def is_free(self) -> bool:
        """Whether this is the free step, whose end is independent of its start."""
        return self.gamma is None

    def diffuse(self, x_l: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return decay * x_l + noise_std * z with fresh z; any shape, same dtype and device.

        The noise comes from ``generator``, or from torch's global one.
        """
        z = torch.randn(x_l.shape, generator=generator, device=x_l.device, dtype=x_l.dtype)
        if self.is_free:
            return z
        return z.mul_(self.noise_std).add_(x_l, alpha=self.decay)


@dataclass(frozen=True)
class OUSchedule:
    """The steps of a chain of N blocks: N - 1 sizes gamma_1..gamma_{N-1}, then the free block.

    Raises:
        InputError: a step size is not a finite positive number.
    """

    step_sizes: tuple[float, ...]

    def __post_init__(self) -> None:
        """Turn the sizes (any iterable, as configurations give lists) into checked floats."""
        object.__setattr__(self, "step_sizes", _checked_sizes(self.step_sizes))

    @property
    def n_blocks(self) -> int:
        """N, the free block included."""
        return len(self.step_sizes) + 1

    def step(self, n: int) -> OUStep:
        """Return the step of block ``n`` = 1..N; that of block N is free."""
        self._check_index(n, lowest=1)
        return OUStep(None if n == self.n_blocks else self.step_sizes[n - 1])

    def marginal(self, n: int) -> OUStep:
        """Return the transition of the exact process from the data through the first ``n`` blocks.

        ``marginal(n).diffuse(x)`` draws from the exact p_n when x is drawn from p_0; n = 0 is the
        identity and n = N the free step. Its OU time is gamma_1 + ... + gamma_n.
        """
        self._check_index(n, lowest=0)
        return OUStep(None if n == self.n_blocks else math.fsum(self.step_sizes[:n]))

    def _check_index(self, n: int, lowest: int) -> None:
        if not lowest <= n <= self.n_blocks:
            raise ValueError(f"block {n} is outside {lowest}..{self.n_blocks}")


def _checked_sizes(sizes: Iterable[float], origin: str = "") -> tuple[float, ...]:
    checked = tuple(float(size) for size in sizes)
    for index, size in enumerate(checked, start=1):
        if not (math.isfinite(size) and size > 0):
            source = f" (from {origin})" if origin else ""
            raise InputError(
                f"step size {index} is {size}{source}; expected a finite number above 0"
            )
    return checked
