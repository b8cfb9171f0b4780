"""What every velocity network and its configuration share."""

from __future__ import annotations

from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.networks.options import NetworkConfig

__all__ = ["NetworkConfig", "VelocityNetwork", "check_sequence", "count_parameters"]


class VelocityNetwork(nn.Module):
    """The network of a block over action chunks: a velocity field v(x, t, cond), mostly.

    Subclasses implement ``forward(x, t, cond)``:

    - ``x``: chunk, shape (batch, *chunk_shape);
    - ``t``: time inside the block, shape (batch,), 0 at the data and 1 at the noise; (batch, 2) for
      methods that ask with two times;
    - ``cond``: encoded observation, shape (batch, cond_dim), or None exactly when ``cond_dim``
      is 0;
    - returns the velocity, or what the method takes it for, shape (batch, *chunk_shape).

    All floating point tensors share the dtype of the parameters. The last layer starts at zero,
    so an untrained network is the velocity 0, and its flow the identity.

    Attributes:
        chunk_shape: shape of one chunk, such as (horizon, action_dim).
        cond_dim: length of the condition vector, 0 without observations.
        n_times: times that it is asked with, 1 or 2.
    """

    def __init__(self, chunk_shape: tuple[int, ...], cond_dim: int, n_times: int = 1) -> None:
        super().__init__()
        self.chunk_shape = chunk_shape
        self.cond_dim = cond_dim
        self.n_times = n_times

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the velocity at (x, t) given cond; see the class for shapes."""
        raise NotImplementedError

    def _check_inputs(self, x: Tensor, cond: Tensor | None) -> None:
        """Check shapes, except the batch's, which export leaves free.

        Raises:
            ValueError: x or cond does not have the shape this network was made for.
        """
        if x.shape[1:] != self.chunk_shape:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, this network expects "
                f"(batch, {', '.join(map(str, self.chunk_shape))})"
            )
        if cond is None:
            if self.cond_dim:
                raise ValueError(
                    f"cond is None, this network expects the encoded observation, shape "
                    f"(batch, {self.cond_dim})"
                )
        elif not self.cond_dim:
            raise ValueError(
                f"cond has shape {tuple(cond.shape)}, this network was made without observations "
                f"(cond_dim 0) and expects cond=None"
            )
        elif cond.ndim != 2 or cond.shape[1] != self.cond_dim:
            raise ValueError(
                f"cond has shape {tuple(cond.shape)}, this network expects (batch, {self.cond_dim})"
            )


def check_sequence(chunk_shape: tuple[int, ...], name: str) -> None:
    """Check that a chunk is a sequence of actions, shape (horizon, action_dim).

    Raises:
        InputError: it has another number of dimensions.
    """
    if len(chunk_shape) != 2:
        raise InputError(
            f"chunk shape {chunk_shape}: the '{name}' network works on (horizon, action_dim); "
            f"use network.name=mlp for any other shape"
        )


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, shared ones counted once, frozen ones included."""
    return sum(parameter.numel() for parameter in module.parameters())
