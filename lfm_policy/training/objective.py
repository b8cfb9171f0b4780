"""What a block is trained on: rows, and a module that turns a batch of them into a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class BlockObjective(ABC):
    """The data and the loss of one block; `BlockTrainer` does the gradient steps.

    Attributes:
        n: number of the block, 1 at the data.
        loss_module: its ``forward(*batch)`` is the loss, a scalar; one module, so that
            data-parallel wrappers see a forward pass.
        device: where the rows are.
        n_rounds: rounds of training. The learning rate starts again in each.
    """

    n: int
    loss_module: nn.Module
    device: torch.device
    n_rounds: int = 1

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return what the optimiser changes, as ``network.<name>`` and ``encoder.<name>``."""

    @abstractmethod
    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return the arguments of the loss module for rows ``idx`` (B,).

        Random numbers come from torch's global generators. Augmentation is for training only.
        """

    def prefetch(self, idx: Tensor) -> None:  # noqa: B027 (most rows are in memory already)
        """Begin to gather rows ``idx`` (B,), which a later batch will ask for."""

    def start_round(self, number: int) -> None:  # noqa: B027 (most objectives have one round)
        """Prepare round 0, 1, ...; the network has the averaged weights of the round before."""

    def kept_tensors(self) -> dict[str, Tensor]:
        """Return what checkpoints keep besides the trained weights; resuming fills it in place."""
        return {}
