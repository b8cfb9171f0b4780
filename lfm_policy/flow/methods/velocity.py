"""Flow matching: the network is the velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.flow.methods.base import BlockPath, OdeMethod
from lfm_policy.flow.paths.interpolant import PathSample
from lfm_policy.flow.solvers.velocity import Network, Velocity


class VelocityMethod(OdeMethod):
    """Regression of the velocity, E || v(I_t, t, O) - dI_t/dt ||^2.

    Lipman et al., "Flow Matching for Generative Modeling", arXiv:2210.02747; for local blocks Xu
    et al., arXiv:2410.02548, Algorithm 1. The block of a distilled student has the same form: its
    velocity at t = 1 is the mean velocity of what it replaces, so that one step of Euler's is all.
    """

    same_work = True

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
        """Return the mean error of the velocity over the batch, a scalar."""
        return self.chunk_errors(network(sample.x_t, sample.t, cond), sample.dx_t).mean()

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        """Return the network itself."""
        return network
