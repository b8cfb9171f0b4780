"""What a velocity and the network of a block are, and how evaluations are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Velocity: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``velocity(x, t, cond)``: x (B, *chunk_shape), t (B,) in [0, 1], cond (B, cond_dim) or None.

Returns dx/dt with the shape of ``x``. t = 0 is the data side, t = 1 the noise side. Any callable
will do: a network, a closed form, a function.
"""


Network: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``network(x, t, cond)``, with the shapes of a `Velocity` but for methods that ask it for two
times: then t is (B, 2). What its output means, the method of the block says."""


class CountedVelocity:
    """Passes every call on to a velocity and counts it (NFE: number of function evaluations)."""

    def __init__(self, velocity: Velocity) -> None:
        self._velocity = velocity
        self.nfe = 0

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Evaluate the velocity once."""
        self.nfe += 1
        return self._velocity(x, t, cond)


def time_like(x: Tensor, value: float) -> Tensor:
    """Return the time ``value`` for each sample of ``x``: (B,), in its dtype, on its device."""
    return x.new_full((x.shape[0],), value)


def per_sample(value: Tensor, x: Tensor) -> Tensor:
    """Reshape ``value`` (B,) to (B, 1, ..., 1), so that it multiplies ``x`` (B, *chunk_shape)."""
    return value.view(-1, *(1,) * (x.ndim - 1))


def uncompiled(network: Network) -> Network:
    """Return the network that `torch.compile` was given, with the same weights."""
    inside: Network = getattr(network, "_orig_mod", network)
    return inside
