"""What every velocity network and its configuration share."""

from __future__ import annotations

from torch import Tensor, nn

from lfm_policy.networks.options import NetworkConfig

__all__ = ["NetworkConfig", "VelocityNetwork"]


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
            expected = ", ".join(map(str, self.chunk_shape))
            raise ValueError(
                f"x has shape {tuple(x.shape)}, this network expects (batch, {expected})"
            )
        fits = cond.ndim == 2 and cond.shape[1] == self.cond_dim if cond is not None else True
        if (cond is None) != (self.cond_dim == 0) or not fits:
            found = "is None" if cond is None else f"has shape {tuple(cond.shape)}"
            expected = f"the encoded observation, shape (batch, {self.cond_dim})"
            if not self.cond_dim:
                expected = "cond=None, because it was made without observations"
            raise ValueError(f"cond {found}, this network expects {expected}")
