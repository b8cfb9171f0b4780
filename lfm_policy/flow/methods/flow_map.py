"""Flow maps that learn from the velocity of their own network."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.flow.methods.mean_velocity import (
    MeanVelocityMethod,
    Steps,
    mean_velocity,
    two_halves,
    u_and_derivative,
)
from lfm_policy.flow.methods.options import FlowMapConfig
from lfm_policy.flow.solvers.velocity import Network


class FlowMapMethod(MeanVelocityMethod):
    """Steps are right for the velocity v(x, t) = u(x, t, t) that the pairs with s = t teach.

    Each rule is an equation that holds for X_{t->s}(x) = x - (t - s) u(x, t, s) and nothing else
    (Boffi et al., "Flow Map Matching", arXiv:2406.07507), here with the network's own v in the
    place of a teacher's ("How to build a consistency model: Learning flow maps via
    self-distillation", arXiv:2505.18825). What has the gradient, and its target without:

        lagrangian  d_s X_{t->s} = v(X_{t->s}, s)
                    u - (t - s) d_s u  ->  sg[v(X_{t->s}, s)]
        eulerian    d_t X_{t->s} + (v . grad_x) X_{t->s} = 0
                    u  ->  sg[v - (t - s) (d_t u + (v . grad_x) u)]
        semigroup   X_{t->s}(x) = X_{r->s}(X_{t->r}(x)), r = (t + s) / 2
                    u  ->  sg[(u(x, t, r) + u(X_{t->r}, r, s)) / 2]

    So what is known of short steps spreads to longer ones and not back. v, and the halves of a
    semigroup, are those of the network with the EMA of its weights, which is steadier: halves of
    the network itself would hold it where it begins, at u = 0, for which the rule is right too. All
    else is of the network itself.
    """

    asks_average = True
    config: FlowMapConfig

    def output(self, network: Network, steps: Steps, n_equal: int) -> Tensor:
        """Return u, or d_s X_{t->s} where that has a target, shape of x."""
        if self.config.rule != "lagrangian" or n_equal == len(steps.t):
            return super().output(network, steps, n_equal)
        rest = steps.rows(n_equal)
        u, change = u_and_derivative(network, rest, ds=1.0)
        moving = u - rest.over(change)
        if not n_equal:
            return moving
        still = super().output(network, steps.rows(0, n_equal), n_equal)
        return torch.cat([still.to(moving), moving])

    def target(self, network: Network, steps: Steps, average: Network) -> Tensor:
        """Return the target of the rule, shape of x."""
        x, t, s, cond = steps.x, steps.t, steps.s, steps.cond
        if self.config.rule == "lagrangian":
            end = x - steps.over(mean_velocity(network, x, t, s, cond))
            return mean_velocity(average, end, s, s, cond)
        if self.config.rule == "eulerian":
            v = mean_velocity(average, x, t, t, cond).to(x)
            _, along_the_flow = u_and_derivative(network, steps, dx=v, dt=1.0)
            return v - steps.over(along_the_flow)
        return two_halves(average, steps)
