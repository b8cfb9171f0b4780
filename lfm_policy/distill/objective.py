"""Teacher trajectories as an objective for `BlockTrainer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lfm_policy.distill.method import DistillLoss
from lfm_policy.training.objective import BlockObjective


@dataclass(frozen=True)
class Pairs:
    """Noise-side states, where the teacher takes them, and the encoding of any rows' windows.

    Attributes:
        y: (R, horizon, action_dim) at the noise side.
        path: (R, points, horizon, action_dim) on the way to the data side, which is entry 0.
        condition: maps row numbers (B,) to (B, cond_dim), or to None without observations.
    """

    y: Tensor
    path: Tensor
    condition: Callable[[Tensor], Tensor | None]


class PairObjective(BlockObjective):
    """The loss of a distillation method on pairs."""

    loss_module: DistillLoss

    def __init__(self, n: int, loss_module: DistillLoss, pairs: Pairs) -> None:
        self.n = n
        self.loss_module = loss_module
        self.device = pairs.y.device
        self.n_rounds = loss_module.n_rounds
        self._pairs = pairs

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._pairs.y)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the student's weights, and those of the method's other networks."""
        return {name: p for name, p in self.loss_module.named_parameters()}

    def start_round(self, number: int) -> None:
        """Prepare a round of the method."""
        self.loss_module.start_round(number)

    def kept_tensors(self) -> dict[str, Tensor]:
        """Return what the method keeps in checkpoints."""
        return self.loss_module.kept_tensors()

    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return y, the trajectory and the encoded observations of rows ``idx``."""
        pairs = self._pairs
        idx = idx.to(self.device)
        return (
            pairs.y.index_select(0, idx),
            pairs.path.index_select(0, idx),
            pairs.condition(idx),
        )
