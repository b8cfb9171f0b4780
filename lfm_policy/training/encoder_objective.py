"""The first stage of training with a shared encoder: it learns from flows over the whole way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lfm_policy.config.training import TrainingConfig
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.training.objective import BlockObjective
from lfm_policy.training.obs_noise import ObsNoise
from lfm_policy.training.source import ChunkSource, Condition

STAGE = 0
"""Number of the stage before block 1."""


class SharedEncoderLoss(nn.Module):
    """Mean of the losses of several flows that share one encoding of each batch.

    Flow n trains on the exact OU marginal of the demonstrations at its data side, so that all can
    learn at once.
    """

    def __init__(self, model: PolicyModel, *, compile: bool) -> None:
        """Build the loss of the encoder and all blocks of ``model``."""
        super().__init__()
        self.encoder = model.encoder
        self.blocks = model.blocks
        numbers = range(1, model.n_blocks + 1)
        velocities = [torch.compile(one) if compile else one for one in model.blocks]
        self._flows = [model.flow_block(n, velocities[n - 1]) for n in numbers]
        self._marginals = [model.schedule.marginal(n - 1) for n in numbers]

    def forward(self, x_0: Tensor, condition: Condition, prefix: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, a scalar."""
        cond = self.encoder(condition) if isinstance(condition, dict) else condition
        cond = with_prefix(cond, prefix)
        losses = [
            flow.loss(marginal.diffuse(x_0), cond)
            for flow, marginal in zip(self._flows, self._marginals, strict=True)
        ]
        return torch.stack(losses).mean()


class EncoderObjective(BlockObjective):
    """Demonstrated chunks for the encoder's own stage."""

    def __init__(
        self, options: TrainingConfig, loss_module: SharedEncoderLoss, source: ChunkSource
    ) -> None:
        self.n = STAGE
        self.loss_module: SharedEncoderLoss = loss_module
        self.device = source.dataset.device
        self._obs_noise = ObsNoise(options, source.dataset)
        self._source = source

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._source)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the encoder and of the blocks."""
        module = self.loss_module
        named = {f"encoder.{k}": p for k, p in module.encoder.trained_parameters().items()}
        return named | {f"blocks.{name}": p for name, p in module.blocks.named_parameters()}

    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return demonstrated chunks and their observations."""
        condition = self._source.condition(idx)
        if training and isinstance(condition, dict):
            condition = self._obs_noise.displace(condition)
        return self._source.chunks(idx), condition, self._source.prefix(idx, random=training)

    def prefetch(self, idx: Tensor) -> None:
        """Begin to gather the images of rows ``idx``."""
        self._source.dataset.prefetch(idx)
