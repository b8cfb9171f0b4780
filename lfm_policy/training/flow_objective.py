"""The regression of a block's velocity (Algorithm 1) as an objective."""

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


class FlowLoss(nn.Module):
    """The loss of block n; an encoder that still learns is part of it."""

    def __init__(self, model: PolicyModel, n: int, *, compile: bool) -> None:
        super().__init__()
        self.network = model.blocks[n - 1]
        self.encoder = model.encoder
        velocity = torch.compile(self.network) if compile else self.network
        self._flow_block = model.flow_block(n, velocity)

    def forward(
        self,
        x_l: Tensor,
        condition: Condition,
        x_other: Tensor | None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch, a scalar."""
        cond = self.encoder(condition) if isinstance(condition, dict) else condition
        return self._flow_block.loss(x_l, with_prefix(cond, prefix), x_other=x_other)


class FlowObjective(BlockObjective):
    """Regression of block n's velocity on the chunks of a source."""

    def __init__(
        self,
        options: TrainingConfig,
        model: PolicyModel,
        n: int,
        source: ChunkSource,
        *,
        trains_encoder: bool,
        loss_module: FlowLoss | None = None,
    ) -> None:
        """Build the objective; ``loss_module`` of another one is shared for other rows."""
        self.n = n
        self.loss_module: FlowLoss = loss_module or FlowLoss(model, n, compile=options.compile)
        self.device = source.dataset.device
        self._trains_encoder = trains_encoder
        self._needs_other = model.flow_block(n).needs_other
        self._obs_noise = ObsNoise(options, source.dataset)
        self._source = source

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self._source)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the network, and of the encoder where it learns too."""
        module = self.loss_module
        named = {f"network.{name}": p for name, p in module.network.named_parameters()}
        if self._trains_encoder:
            named |= {f"encoder.{k}": p for k, p in module.encoder.trained_parameters().items()}
        return named

    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return x_l, the observations (or their encoding), and a second batch if it is needed."""
        x_l = self._source.chunks(idx)
        condition = self._source.condition(idx, random_views=training)
        if training and isinstance(condition, dict):
            # The encodings of a frozen encoder stay exact.
            condition = self._obs_noise.displace(condition)
        x_other = None
        if self._needs_other and training:
            rows = torch.randint(len(self._source), idx.shape, device=self.device)
            x_other = self._source.chunks(rows)
        elif self._needs_other:
            x_other = x_l.flip(0)
        return x_l, condition, x_other, self._source.prefix(idx, random=training)

    def prefetch(self, idx: Tensor) -> None:
        """Begin to gather the images of rows ``idx``."""
        if self._source.cond is None:
            self._source.dataset.prefetch(idx)
