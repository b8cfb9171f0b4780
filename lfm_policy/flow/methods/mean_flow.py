"""Mean flow: the mean velocity of a step from its derivative along the path of a pair."""

from __future__ import annotations

from torch import Tensor

from lfm_policy.flow.methods.mean_velocity import MeanVelocityMethod, Steps, u_and_derivative
from lfm_policy.flow.solvers.velocity import Network


class MeanFlowMethod(MeanVelocityMethod):
    """Regression of u(I_t, t, s) on sg[dI_t/dt - (t - s) (d_t u + (dI_t/dt . grad_x) u)].

    Geng et al., "Mean Flows for One-step Generative Modeling", arXiv:2505.13447; with robots Sheng
    et al., "MP1", arXiv:2507.10543. The derivative of (t - s) u(x, t, s) = x - X_{t->s}(x) along
    the flow is v(x, t), for X_{t->s} is constant there; in the place of v, of which it is the mean,
    stands the derivative of the path. All of the target is without gradient: the product of u's
    Jacobian is taken forward, and the gradient is that of u alone.
    """

    def target(self, network: Network, steps: Steps, average: Network) -> Tensor:
        """Return dI_t/dt - (t - s) du/dt along the path, shape of x."""
        _, along_the_path = u_and_derivative(network, steps, dx=steps.dx, dt=1.0)
        return steps.dx - steps.over(along_the_path)
