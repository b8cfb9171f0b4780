"""The order in which training windows are visited."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.training.seeds import BATCH_ORDER, derived_seed


class BatchOrder:
    """Shuffled epochs, one after the other, cut into batches; batch k depends on nothing but k.

    Because it has no state, a resumed run sees the batches that an uninterrupted one would.
    Every window is visited once per epoch; a batch may span the end of one epoch and the
    beginning of the next.
    """

    def __init__(
        self, n_items: int, batch_size: int, *, seed: int, block: int, rank: int = 0, world: int = 1
    ) -> None:
        self._n_items = n_items
        self._batch_size = batch_size
        self._key = (seed, block)
        self._rank = rank
        self._world = world
        self._epochs: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        """Return the window numbers of this process's batch in step ``step``, (batch_size,) int64.

        Processes share one order: together they visit ``world * batch_size`` windows per step.
        """
        begin = (step * self._world + self._rank) * self._batch_size
        parts = []
        left = self._batch_size
        while left > 0:
            epoch, offset = divmod(begin, self._n_items)
            part = self._permutation(epoch)[offset : offset + left]
            parts.append(part)
            begin += len(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            generator = torch.Generator().manual_seed(
                derived_seed(self._key[0], BATCH_ORDER, self._key[1], epoch)
            )
            # Two epochs are enough for a batch that spans an end; older ones are dropped.
            self._epochs = {e: p for e, p in self._epochs.items() if e >= epoch - 1}
            self._epochs[epoch] = torch.randperm(self._n_items, generator=generator)
        return self._epochs[epoch]
