"""The network predicts the clean chunk, the data-side end of the path."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.flow.methods.base import BlockPath, OdeMethod
from lfm_policy.flow.paths.interpolant import PathSample
from lfm_policy.flow.solvers.velocity import Network, Velocity

SMALLEST_TIME = 1e-2
"""Below this time the velocity of a predicted chunk is taken at this time: at t = 0 the chunk is
known already, and its velocity is 0 / 0."""


class CleanChunkMethod(OdeMethod):
    """The output is E[x_l | I_t], the clean chunk.

    On the path I_t = data x_l + noise x_r it fixes the other end, E[x_r | I_t] =
    (I_t - data E[x_l | I_t]) / noise, and with both ends the velocity.
    """

    same_work = True

    def predict(self, network: Network, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return the chunk predicted at x (B, *chunk_shape) and t (B,)."""
        return network(x, t, cond)

    def loss(
        self,
        network: Network,
        sample: PathSample,
        cond: Tensor | None,
        path: BlockPath,
        *,
        average: Network | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean error of the chunk over the batch, a scalar."""
        output = self.predict(network, sample.x_t, sample.t, cond)
        return self.chunk_errors(output, sample.x_l).mean()

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        """Return the velocity that leads from the predicted chunk to the state and on."""

        def velocity(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            t = t.clamp(min=SMALLEST_TIME)
            chunk = self.predict(network, x, t, cond)
            return path.interpolant.velocity_towards(chunk, x, t)

        return velocity
