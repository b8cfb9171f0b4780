"""What methods share whose network is a mean velocity, so that one evaluation is a step."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lfm_policy.flow.methods.base import BlockPath, ErrorMethod, check_output
from lfm_policy.flow.methods.options import MeanVelocityConfig
from lfm_policy.flow.paths.interpolant import PathSample
from lfm_policy.flow.solvers.velocity import Network, Velocity, per_sample, time_like, uncompiled


class Steps(NamedTuple):
    """Points of paths, and the times that steps from there lead to.

    Attributes:
        x: (B, *chunk_shape), at the times ``t``.
        dx: their derivatives along the paths.
        t: (B,).
        s: (B,), at most ``t``.
        cond: (B, cond_dim), or None.
    """

    x: Tensor
    dx: Tensor
    t: Tensor
    s: Tensor
    cond: Tensor | None

    def over(self, value: Tensor) -> Tensor:
        """Return ``value`` (B, *chunk_shape) times the length t - s of each step."""
        return per_sample(self.t - self.s, value) * value

    def rows(self, begin: int, end: int | None = None) -> Steps:
        """Return some of the steps."""
        some = slice(begin, end)
        cond = None if self.cond is None else self.cond[some]
        return Steps(self.x[some], self.dx[some], self.t[some], self.s[some], cond)


class MeanVelocityMethod(ErrorMethod):
    """The network is u(x, t, s) = (x - X_{t->s}(x)) / (t - s), s <= t, and u(x, t, t) = v(x, t).

    X_{t->s} takes a point along the flow from the time t to the time s nearer the data. The loss of
    a step is the error of u(x, t, s) against a target; of a share of the pairs s = t, where the
    target is the derivative of the path, as in flow matching. Subclasses make the others' targets.
    """

    n_times = 2
    same_work = True
    config: MeanVelocityConfig

    @abstractmethod
    def target(self, network: Network, steps: Steps, average: Network) -> Tensor:
        """Return what u(x, t, s) of steps with s < t is to be, (B, *chunk_shape), no gradients.

        Called under ``torch.no_grad()``.

        Args:
            network: u, called as ``network(x, stack([t, s]), cond)``; see `mean_velocity`.
            steps: of the pairs.
            average: the network with the EMA of its weights, or the network where there is none.
        """

    def output(self, network: Network, steps: Steps, n_equal: int) -> Tensor:
        """Return what is compared with the targets, shape of x, with gradients: u itself.

        Args:
            network: u.
            steps: of all pairs.
            n_equal: the number of those, the first, of which s = t.
        """
        return mean_velocity(network, steps.x, steps.t, steps.s, steps.cond)

    def times(self, t: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return where steps begin and where they lead, each (B,), from drawn times ``t`` (B,).

        They begin at t and lead to a time drawn uniformly between the data and t. A subclass may
        let them begin elsewhere: the points are taken there.
        """
        share = torch.rand(t.shape, generator=generator, device=t.device, dtype=t.dtype)
        return t, t * share

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
        """Return the mean error of u over the batch, a scalar.

        The pairs with s = t lie evenly in the batch, and so do steps through the whole block among
        the others: rows that follow one another may be of one chunk or episode.
        """
        n_equal = _share(self.config.equal_share, len(sample.t))
        n_whole = round(self.config.whole_share * (len(sample.t) - n_equal))
        order = _evenly(len(sample.t), n_equal, sample.t.device)
        others = _evenly(len(order) - n_equal, n_whole, order.device)
        order = torch.cat([order[:n_equal], order[n_equal:][others]])
        sample = PathSample(*(part[order] for part in sample))
        cond = None if cond is None else cond[order]
        t = s = sample.t
        if n_equal < len(t):
            begins, ends = self.times(t[n_equal:], generator)
            one, zero = t.new_ones(n_whole), t.new_zeros(n_whole)
            s = torch.cat([t[:n_equal], zero, ends[n_whole:]])
            t = torch.cat([t[:n_equal], one, begins[n_whole:]])
            sample = path.interpolant.interpolate(sample.x_l, sample.x_r, t)
        pairs = Steps(sample.x_t, sample.dx_t, t, s, cond)
        output = self.output(network, pairs, n_equal)
        target = pairs.dx
        if n_equal < len(t):
            steps = pairs.rows(n_equal)
            with torch.no_grad():
                wanted = self.target(network, steps, network if average is None else average)
            check_output(wanted, steps.x)
            target = torch.cat([target[:n_equal], wanted.to(target)])
        return self.chunk_errors(output, target).mean()

    def step(
        self,
        network: Network,
        x: Tensor,
        cond: Tensor | None,
        t: float,
        t_next: float,
        path: BlockPath,
    ) -> Tensor:
        """Return X_{t->t_next}(x) = x - (t - t_next) u(x, t, t_next).

        Towards the noise, where u knows nothing of steps, it is one of Euler's.
        """
        begin, end = time_like(x, t), time_like(x, min(t, t_next))
        return x + (t_next - t) * mean_velocity(network, x, begin, end, cond)

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        """Return u(x, t, t)."""

        def velocity(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            return mean_velocity(network, x, t, t, cond)

        return velocity


def mean_velocity(network: Network, x: Tensor, t: Tensor, s: Tensor, cond: Tensor | None) -> Tensor:
    """Return u(x, t, s), shape of ``x``, for t and s (B,)."""
    return network(x, torch.stack([t, s], dim=1), cond)


def two_halves(network: Network, steps: Steps, shortest: Tensor | None = None) -> Tensor:
    """Return the mean velocity of two steps of half the length, shape of ``x``.

    Args:
        network: u.
        steps: the whole ones.
        shortest: (B,), true where halves are so short that each follows the velocity at its begin.
    """
    middle = (steps.t + steps.s) / 2
    ends = middle, steps.s
    if shortest is not None:
        ends = (
            torch.where(shortest, steps.t, middle),
            torch.where(shortest, middle, steps.s),
        )
    first = mean_velocity(network, steps.x, steps.t, ends[0], steps.cond)
    between = steps.x - steps.over(first) / 2
    return (first + mean_velocity(network, between, middle, ends[1], steps.cond)) / 2


def u_and_derivative(
    network: Network, steps: Steps, *, dx: Tensor | None = None, dt: float = 0.0, ds: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return u(x, t, s) and how it changes along a direction of (x, t, s), shapes of ``x``.

    One product with the Jacobian in forward mode, in the precision of ``x`` and of the weights even
    where autocast is on: a derivative is what nearly equal numbers differ by, of which half
    precision keeps two or three digits.

    Args:
        network: u, of any operations that have a forward-mode derivative.
        steps: where.
        dx: direction of x, (B, *chunk_shape); None: x stays.
        dt: direction of t.
        ds: direction of s.
    """
    x = steps.x
    # torch.compile does not promise forward mode: the network within it is asked.
    asked = uncompiled(network)
    cond = None if steps.cond is None else steps.cond.to(x)
    times = torch.stack([steps.t, steps.s], dim=1).to(x)
    towards = torch.zeros_like(x) if dx is None else dx.to(x)
    # Filled on the device: numbers that are copied there cannot be recorded.
    changes = torch.stack([torch.full_like(steps.t, dt), torch.full_like(steps.s, ds)], dim=1)
    along = (towards, changes.to(x))

    def u(x: Tensor, times: Tensor) -> Tensor:
        return asked(x, times, cond)

    with torch.autocast(x.device.type, enabled=False):
        value, change = torch.func.jvp(u, (x, times), along)[:2]
    return value, change


def _share(share: float, n: int) -> int:
    """Return how many of n rows a share is: of both kinds at least one, where there are two."""
    count = round(share * n)
    return min(max(count, 1), n - 1) if 0 < share < 1 and n > 1 else count


def _evenly(n: int, k: int, device: torch.device) -> Tensor:
    """Return n rows in an order in which the first k lie evenly among all."""
    rows = torch.arange(n, device=device)
    return torch.argsort((rows * k % max(n, 1) >= k).to(torch.uint8), stable=True)
