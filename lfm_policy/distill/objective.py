"""Pairs of teacher states as an objective for `BlockTrainer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lfm_policy.training.objective import BlockObjective


@dataclass(frozen=True)
class Pairs:
    """Noise-side states, where the teacher takes them, and the encoding of any rows' windows.

    Attributes:
        y: (R, horizon, action_dim) at the noise side.
        x: (R, horizon, action_dim) at the data side.
        condition: maps row numbers (B,) to (B, cond_dim), or to None without observations.
    """

    y: Tensor
    x: Tensor
    condition: Callable[[Tensor], Tensor | None]


class PairObjective(BlockObjective):
    """The loss of a distillation method on pairs."""

    def __init__(self, n: int, loss_module: nn.Module, pairs: Pairs) -> None:
        self.n = n
        self.loss_module = loss_module
        self.device = pairs.y.device
        self._pairs = pairs

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._pairs.y)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the student's weights."""
        return {name: p for name, p in self.loss_module.named_parameters()}

    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return y, x and the encoded observations of rows ``idx``."""
        pairs = self._pairs
        return (
            pairs.y.index_select(0, idx),
            pairs.x.index_select(0, idx),
            pairs.condition(idx),
        )
