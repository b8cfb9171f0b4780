"""Flow matching: the network is the velocity."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from lfm_policy.flow.methods.base import BlockPath, OdeMethod, check_output
from lfm_policy.flow.paths.interpolant import PathSample
from lfm_policy.flow.solvers.velocity import Network, Velocity


class VelocityMethod(OdeMethod):
    """Regression of the velocity, E || v(I_t, t, O) - dI_t/dt ||^2.

    Lipman et al., "Flow Matching for Generative Modeling", arXiv:2210.02747; for local blocks Xu
    et al., arXiv:2410.02548, Algorithm 1. The block of a distilled student has the same form: its
    velocity at t = 1 is the mean velocity of what it replaces, so that one step of Euler's is all.
    """

    def loss(
        self, network: Network, sample: PathSample, cond: Tensor | None, path: BlockPath
    ) -> Tensor:
        """Return the mean square error of the velocity over batch and entries, a scalar."""
        output = network(sample.x_t, sample.t, cond)
        check_output(output, sample.x_t)
        return functional.mse_loss(output, sample.dx_t)

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        """Return the network itself."""
        return network


VELOCITY = VelocityMethod()
