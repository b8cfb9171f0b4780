"""Consistency flow matching: from every time of a path a straight step leads to the same end."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow.methods.base import BlockPath, ErrorMethod
from lfm_policy.flow.methods.options import ConsistencyFlowConfig
from lfm_policy.flow.paths.interpolant import PathSample
from lfm_policy.flow.solvers import SolverSpec, euler_step
from lfm_policy.flow.solvers.velocity import Network, Velocity, per_sample


class ConsistencyFlowMethod(ErrorMethod):
    """Yang et al., "Consistency Flow Matching", arXiv:2407.02398.

    The time of a block is cut into equal segments. With the end f(x, t) = x - (t - a) v(x, t) of a
    straight step to the data side a of the segment, the loss of a path I_t is the error of

        f(I_t, t) -> f(I_{t - delta}, t - delta),   plus alpha times that of
        v(I_t, t) -> v(I_{t - delta}, t - delta)

    where the right sides have no gradient, and t is uniform over a + delta to the noise side of
    the segment, so that both points are in one segment. They have the weights themselves, as in the
    authors' code: towards an EMA of them, which lags behind by more than a step of delta changes,
    nothing moves. Both errors are divided by delta, so that they are of the size of a velocity:
    AdamW took no notice of errors of the size of delta itself.

    What is learnt, for small delta and alpha, is the mean velocity from t to a: one step of Euler's
    through each segment samples. It is no velocity that a solver could follow, for flows of data
    are not straight, and it leads to the data alone.
    """

    same_work = True
    config: ConsistencyFlowConfig

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
        """Return the mean error over the batch, a scalar."""
        config = self.config
        position = sample.t * config.segments
        segment = position.floor().clamp(max=config.segments - 1)
        begin = segment / config.segments
        earlier = begin + (position - segment) * (1 / config.segments - config.delta)
        later = (earlier + config.delta).clamp(max=1)
        x_later = path.interpolant.interpolate(sample.x_l, sample.x_r, later).x_t
        x_earlier = path.interpolant.interpolate(sample.x_l, sample.x_r, earlier).x_t
        v = network(x_later, later, cond)
        with torch.no_grad():
            wanted = network(x_earlier, earlier, cond)
            end = x_earlier - per_sample(earlier - begin, wanted) * wanted
        reached = x_later - per_sample(later - begin, v) * v
        changes = self.chunk_errors(v / config.delta, wanted / config.delta)
        ends = self.chunk_errors(reached / config.delta, end / config.delta)
        return (ends + config.alpha * changes).mean()

    def step(
        self,
        network: Network,
        x: Tensor,
        cond: Tensor | None,
        t: float,
        t_next: float,
        path: BlockPath,
    ) -> Tensor:
        """Return x - (t - t_next) v(x, t).

        Raises:
            InputError: the step leads towards the noise.
        """
        if t_next > t:
            raise self._no_velocity()
        return euler_step(network, x, cond, t, t_next)

    def velocity(self, network: Network, path: BlockPath) -> Velocity:
        """Raise the error that there is none.

        Raises:
            InputError: always.
        """
        raise self._no_velocity()

    def check_solver(self, solver: SolverSpec) -> None:
        """Check that a solver makes the steps that networks have learnt, those of Euler's method.

        Raises:
            InputError: it integrates a velocity, or belongs to another method, or has a step that
                leads from one segment into the next.
        """
        super().check_solver(solver)
        if solver.name != "euler":
            raise self._no_velocity()
        segments = self.config.segments
        ends = solver.times or [n / solver.n_steps for n in range(1, solver.n_steps)]
        for boundary in (n / segments for n in range(1, segments)):
            if min((abs(end - boundary) for end in ends), default=1.0) > 1e-6:
                raise InputError(
                    f"solver {solver.name}: no step of a block ends at t = {boundary:.4g}, where "
                    f"one of its {segments} segments does (flow.method.segments); ask for "
                    f"{segments} steps per block, or a multiple, of one evaluation each, two with "
                    "guidance"
                )

    def _no_velocity(self) -> InputError:
        return InputError(
            f"networks of '{self.config.name}' lead to the data in steps of 'euler' and stand for "
            "no velocity that another solver, a push-forward or a likelihood could follow"
        )
