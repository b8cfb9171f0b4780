"""Distribution matching: the student's samples look to the teacher's velocity like its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lfm_policy.config import ExperimentConfig
from lfm_policy.distillation.methods.base import DistillLoss
from lfm_policy.errors import InputError
from lfm_policy.flow import OUStep
from lfm_policy.flow.solvers.velocity import per_sample

EARLIEST, LATEST = 0.02, 0.98
"""Times at which the two velocities are compared: at the ends one of them has nothing to say."""


class DistributionLoss(DistillLoss):
    """Diff-Instruct (Luo et al., arXiv:2305.18455) with the teacher's blocks as the score.

    The student's samples x are taken to a random time of a block of the group, as the block's own
    training takes its data there. There the teacher's velocity and that of a second network, the
    `critic`, which learns the flow of the student's samples, say where x should lie; x moves by
    the difference of the two (with the scale of Yin et al., arXiv:2311.18828). That is the
    gradient of the Kullback-Leibler divergence between the student's samples and the teacher's,
    integrated over the times. ``distill.regression_weight`` adds the regression on pairs.
    """

    own_options = ("regression_weight",)
    asks_teacher = True

    @classmethod
    def adapt(cls, options: dict[str, Any]) -> None:
        """Sample all that the teacher can, and not only what is likely."""
        options["sampler"]["noise_scale"] = 1.0

    @classmethod
    def check(cls, config: ExperimentConfig) -> None:
        """Check that the teacher samples all it can: velocities know whole distributions."""
        super().check(config)
        if config.sampler.noise_scale != 1:
            raise InputError(
                f"sampler.noise_scale is {config.sampler.noise_scale:g}, expected 1 for the method "
                f"'{config.distill.method}', which matches all that the teacher samples; add "
                "sampler.noise_scale=1"
            )

    def _prepare(self) -> None:
        if not self.group.whole_blocks:
            raise InputError(
                "distillation method 'distribution' needs students of whole blocks: nfe is larger "
                "than the teacher's number of blocks"
            )
        self.critic = copy.deepcopy(self.network)

    def forward(self, y: Tensor, path: Tensor, cond: Tensor | None) -> Tensor:
        """Return the losses of the student and of the critic together, a scalar.

        No gradient of one reaches the other.
        """
        group = self.group
        x = self.one_step(y, cond)
        n = int(torch.randint(group.first, group.last + 1, ()))
        block = group.chain.block(n)
        times = [group.chain.block(m).step.gamma or 0.0 for m in range(group.first, n)]
        x_l = x if n == group.first else OUStep(sum(times)).diffuse(x)
        t = torch.rand(len(y), device=y.device) * (LATEST - EARLIEST) + EARLIEST
        with torch.no_grad():
            other = x_l.flip(0) if block.needs_other else None
            x_r = block.noise_end(x_l, cond, x_other=other)
            sample = block.interpolant.interpolate(x_l, x_r, t)
            teacher = block.velocity(sample.x_t, t, cond)
        # The critic knows the time in its group only.
        critic = self.critic(
            sample.x_t, (t + (n - group.first)) / (group.last - group.first + 1), cond
        )
        with torch.no_grad():
            wanted = block.interpolant.data_end(sample.x_t, teacher, t)
            found = block.interpolant.data_end(sample.x_t, critic, t)
            distance = (x_l - wanted).abs().mean(dim=(1, 2)).clamp(min=1e-3)
            target = x_l - (found - wanted) / per_sample(distance, x_l)
        student_loss = 0.5 * self.mean_square(x_l - target)
        critic_loss = functional.mse_loss(critic, sample.dx_t)
        loss = student_loss + critic_loss
        if self.options.regression_weight:
            loss = loss + self.options.regression_weight * self.distance(x - path[:, 0])
        return loss
