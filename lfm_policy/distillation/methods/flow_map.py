"""Flow map matching: steps of any length, whose ends move with the teacher's velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation.methods.base import TrajectoryLoss, state_at
from lfm_policy.errors import InputError
from lfm_policy.flow.methods.mean_velocity import Steps, mean_velocity, u_and_derivative

FROM_NOISE = 0.5
"""Share of the rows whose step starts at the noise side of the group, from where every chunk is
sampled; the others start at one of the states on the teacher's way."""


class FlowMapLoss(TrajectoryLoss):
    """Lagrangian map distillation (Boffi et al., "Flow Map Matching", arXiv:2406.07507).

    The student is the whole flow map of its group, X_{t->s}(x) = x - (t - s) u(x, t, s, O) for all
    s <= t, so it takes any number of steps. As s goes down from t, the end of the step moves along
    the teacher's flow, d_s X_{t->s}(x) = v(X_{t->s}(x), s), v in units of the group's time. That is

        E || u(x, t, s) - (t - s) d_s u(x, t, s) - sg[v(X_{t->s}(x), s)] ||^2,

    x a state on the teacher's way at one of its ``distill.trajectory_points`` times t, and s
    uniform below it. The teacher is asked where the student's step ends, in every gradient step.

    This is the rule that lets t take few values. The two others (`FlowMapMethod`) tie what the
    network says at t to what it says at times beside it, where no state of the teacher is known: a
    student of them does not find the map of a Gaussian.
    """

    student_method = "flow_map"
    one_evaluation = False
    asks_teacher = True

    @classmethod
    def check(cls, config: ExperimentConfig) -> None:
        """Check that the student's rule is the one by which it is distilled."""
        super().check(config)
        rule = getattr(config.flow.method, "rule", "")
        if rule != "lagrangian":
            raise InputError(
                f"flow.method.rule is '{rule}', expected 'lagrangian', the rule of the "
                "distillation method 'flow_map': the others need states at all times, and those of "
                "a teacher are known at a few"
            )

    def _prepare(self) -> None:
        for n in range(self.group.first, self.group.last + 1):
            self.group.chain.block(n).velocity  # noqa: B018 (refuses what is none)

    def flow_map(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return X_{t->0}(x)."""
        u = mean_velocity(self.network, x, t, torch.zeros_like(t), cond)
        return x - t[:, None, None] * u

    def forward(self, y: Tensor, path: Tensor, cond: Tensor | None) -> Tensor:
        """Return the error of the student's steps, see `distance`, a scalar."""
        points, rows = path.shape[1], (len(y),)
        index = torch.randint(1, points + 1, rows, device=y.device)
        index = torch.where(torch.rand(rows, device=y.device) < FROM_NOISE, points, index)
        x, t = state_at(y, path, index), index.to(y.dtype) / points
        s = t * torch.rand(rows, device=y.device, dtype=y.dtype)
        steps = Steps(x, torch.zeros_like(x), t, s, cond)
        u, change = u_and_derivative(self.network, steps, ds=1.0)
        end = x - steps.over(u.detach())
        return self.distance(u - steps.over(change) - self.group.velocity(end, s, cond))
