"""How far a student's chunks are from its teacher's, where it has not learnt from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lfm_policy.config.schema import PolicyConfig
from lfm_policy.distillation.samples import STUDENT_STEP
from lfm_policy.distillation.seen import Seen

if TYPE_CHECKING:
    from lfm_policy.data.normalizer import KeyStatistics
    from lfm_policy.policy.model import PolicyModel

_ROWS = 1024


@torch.no_grad()
def distance_from_teacher(
    model: PolicyModel,
    policy: PolicyConfig,
    action: KeyStatistics,
    noise: Tensor,
    ends: Tensor,
    seen: Seen,
) -> dict[str, Any]:
    """Compare the actions that are executed of the student's and of the teacher's chunks.

    Both start from the same noise. Errors are root mean squares over all rows and steps.

    Args:
        model: of the student.
        policy: says which actions of a chunk are executed.
        action: how actions are scaled.
        noise: (R, horizon, action_dim).
        ends: where the teacher is at the end of each group, (R, N', horizon, action_dim), the
            data first.
        seen: what the student sees of the rows.

    Returns:
        ``observations``: R; ``rmse``: of each number of an action, in the robot's unit;
        ``rmse_normalised``: of all, as networks see them; ``of_spread``: that, as a share of how
        far the teacher's actions are from their mean.
    """
    chain = model.chain()
    parts = [
        chain.sample(noise[rows], seen.condition(rows), solver=STUDENT_STEP).x
        for rows in torch.arange(len(noise)).split(_ROWS)
    ]
    first = policy.n_obs_steps - 1
    executed = slice(first, first + policy.n_action_steps)
    own, teacher = (x[:, executed].double() for x in (torch.cat(parts), ends[:, 0]))
    error = (own - teacher).square().mean((0, 1))
    spread = (teacher - teacher.mean((0, 1))).square().mean()
    scale = action.scale.to(error).abs()
    return {
        "observations": len(noise),
        "rmse": (error.sqrt() / scale).tolist(),
        "rmse_normalised": float(error.mean().sqrt()),
        "of_spread": float((error.mean() / spread.clamp(min=1e-12)).sqrt()),
    }
