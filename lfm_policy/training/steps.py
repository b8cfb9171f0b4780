"""How many gradient steps each block gets, and how large each of them is.

Both are functions of the step alone, so that a training can go on anywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError


@dataclass(frozen=True)
class Pass:
    """The gradient steps of one way through all parts: of the encoder, and of each block.

    A run has one; one that was continued with more steps has another for those.
    """

    encoder_steps: int
    block_steps: list[int]

    def steps(self, n: int) -> int:
        """Return the steps of block n, or of encoder and blocks together for 0."""
        return self.block_steps[n - 1] if n else self.encoder_steps

    def in_words(self) -> str:
        """Return the steps of each block and their sum."""
        blocks = " + ".join(f"{s:,}" for s in self.block_steps) + f" = {sum(self.block_steps):,}"
        return f"encoder {self.encoder_steps:,}, blocks {blocks}" if self.encoder_steps else blocks


def passes_of(config: ExperimentConfig) -> list[Pass]:
    """Return the passes of a run, see ``training.extended_from``."""
    ends = [(0, 0), *config.training.pass_ends]
    joint = config.training.encoder == "joint"
    return [
        Pass(encoder - encoder_before if joint else 0, _steps_of_blocks(config, total - before))
        for (before, encoder_before), (total, encoder) in pairwise(ends)
    ]


def _steps_of_blocks(config: ExperimentConfig, total: int) -> list[int]:
    """Return the gradient steps of each block; they add up to ``total``."""
    n_blocks = config.flow.n_blocks
    if total == 0:
        return [0] * n_blocks
    shares = list(config.training.block_shares) or [1.0] * n_blocks
    ends = [round(total * sum(shares[: n + 1]) / sum(shares)) for n in range(n_blocks)]
    steps = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    if min(steps) < 1:
        raise InputError(
            f"training.block_shares gives block {steps.index(min(steps)) + 1} no step of the "
            f"{total} of training.total_steps, or of those that were added to it"
        )
    return steps


def cosine_share(step: int, *, warmup: int, n_steps: int, n_rounds: int = 1) -> float:
    """Return the share of the learning rate in a step, 0 to 1.

    It rises along a line over the first steps and then falls to 0 along half a cosine, once per
    round.

    Args:
        step: 0 to ``n_steps``.
        warmup: steps of the line.
        n_steps: steps in all.
        n_rounds: how often it falls.
    """
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, n_steps - warmup)
    if n_rounds > 1:
        progress = progress * n_rounds % 1.0 if progress < 1 else 1.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))


def round_starts(n_steps: int, warmup: int, n_rounds: int) -> list[int]:
    """Return the step at which each round starts: where the cosine does."""
    length = n_steps - warmup
    return [0] + [warmup + math.ceil(k * length / n_rounds) for k in range(1, n_rounds)]
