"""How the gradient steps are shared out to the blocks."""

from __future__ import annotations

from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError


def steps_of_blocks(config: ExperimentConfig) -> list[int]:
    """Return the gradient steps of each block; they add up to ``training.total_steps``."""
    n_blocks = config.flow.n_blocks
    if config.training.joint_only:
        return [0] * n_blocks
    shares = list(config.training.block_shares) or [1.0] * n_blocks
    total = config.training.total_steps
    ends = [round(total * sum(shares[: n + 1]) / sum(shares)) for n in range(n_blocks)]
    steps = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    if min(steps) < 1:
        raise InputError(
            f"training.block_shares gives block {steps.index(min(steps)) + 1} no step of "
            f"training.total_steps = {total}"
        )
    return steps
