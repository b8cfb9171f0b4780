"""What is trained in which step: all blocks together, then one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lerobot.optim import LRSchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lfm_policy.training.steps import cosine_share

if TYPE_CHECKING:
    from lerobot_policy_lfm.configuration_lfm import LFMConfig


@dataclass(frozen=True)
class Part:
    """Steps that train the same.

    Attributes:
        n: the block that learns, 1 at the data; 0: all of them, with the encoder.
        start: first step of the part.
        length: its steps.
    """

    n: int
    start: int
    length: int


def training_parts(total: int, joint_share: float, n_blocks: int) -> list[Part]:
    """Return the parts of a training in order; those without steps are left out.

    Args:
        total: steps.
        joint_share: share of them that trains all blocks together.
        n_blocks: number of blocks, which share the others evenly.

    Raises:
        ValueError: the steps after the joint ones are fewer than blocks.
    """
    joint = round(joint_share * total)
    left = total - joint
    if 0 < left < n_blocks:
        raise ValueError(
            f"of {total} steps, joint_share={joint_share:g} leaves {left} for {n_blocks} blocks: "
            "expected at least one for each: raise --steps, or set --policy.joint_share=1"
        )
    parts = [Part(0, 0, joint)] if joint else []
    if left:
        ends = [joint + round(left * n / n_blocks) for n in range(n_blocks + 1)]
        parts += [Part(n, ends[n - 1], ends[n] - ends[n - 1]) for n in range(1, n_blocks + 1)]
    return parts


def part_at(parts: list[Part], step: int) -> Part:
    """Return the part that a step belongs to; after the last step it is the last part."""
    return next((part for part in parts if step < part.start + part.length), parts[-1])


@LRSchedulerConfig.register_subclass("lfm")
@dataclass
class LFMSchedulerConfig(LRSchedulerConfig):
    """In every part the learning rate rises along a line, and falls to 0 along half a cosine.

    Attributes:
        num_warmup_steps: of every part; None: ``warmup_share`` of its steps.
        warmup_share: see above.
        joint_share: as the policy's.
        n_blocks: as the policy's.
        train_steps: steps of the training, filled in when it begins.
    """

    num_warmup_steps: int | None = None
    warmup_share: float = 0.025
    joint_share: float = 0.5
    n_blocks: int = 3
    train_steps: int = 0

    def __post_init__(self) -> None:
        self.policy: LFMConfig | None = None

    def build(self, optimizer: Optimizer, num_training_steps: int) -> LambdaLR:
        """Return the scheduler, and tell the policy how many steps there will be.

        Raises:
            ValueError: a training is resumed with another number of steps.
        """
        if self.train_steps not in (0, num_training_steps):
            raise ValueError(
                f"--steps is {num_training_steps}, but this training was begun with "
                f"{self.train_steps}, which say when each block learns: resume it with these, or "
                "begin another one from its weights with --policy.path"
            )
        self.train_steps = num_training_steps
        parts = training_parts(num_training_steps, self.joint_share, self.n_blocks)
        if self.policy is not None:
            self.policy.train_steps = num_training_steps

        def share(step: int) -> float:
            part = part_at(parts, step)
            warmup = self.num_warmup_steps
            if warmup is None:
                warmup = round(self.warmup_share * part.length)
            inside = min(step - part.start, part.length)
            return cosine_share(inside, warmup=min(warmup, part.length), n_steps=part.length)

        return LambdaLR(optimizer, share)
