"""Windows of several datasets as those of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from lfm_policy.data.dataset import WindowDataset


class JoinedWindows:
    """Windows of several datasets, one dataset after the other.

    Nothing is copied. All of them must observe the same keys, with the same shapes, on one device.
    """

    def __init__(self, parts: Sequence[WindowDataset]) -> None:
        self._parts = tuple(parts)
        # Python's numbers, too: reading them from a GPU would wait for it in every batch.
        self._starts = [0, *accumulate(len(part) for part in parts)]
        self._ends = torch.tensor(self._starts[1:], device=parts[0].device)

    def __len__(self) -> int:
        """Return the number of windows."""
        return self._starts[-1]

    @property
    def device(self) -> torch.device:
        """Where the data and the batches are."""
        return self._parts[0].device

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return self._parts[0].image_keys

    @property
    def n_views(self) -> int:
        """Number of views of every frame whose features are known, 0 without features."""
        return self._parts[0].n_views

    def gather_action(self, idx: Tensor) -> Tensor:
        """Return normalised chunks, see `WindowDataset.gather_action`."""
        found = self._gather(idx, lambda part, own, _: {"action": part.gather_action(own)})
        return found["action"]

    def gather_obs(
        self, idx: Tensor, views: Tensor | None = None, *, images: bool = True
    ) -> dict[str, Tensor]:
        """Return observation histories, see `WindowDataset.gather_obs`."""

        def gather(part: WindowDataset, own: Tensor, rows: Tensor) -> dict[str, Tensor]:
            own_views = None if views is None else views.to(rows.device)[rows]
            return part.gather_obs(own, own_views, images=images)

        return self._gather(idx, gather)

    def _gather(
        self, idx: Tensor, gather: Callable[[WindowDataset, Tensor, Tensor], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        idx = idx.to(self.device)
        number = torch.searchsorted(self._ends, idx, right=True)
        batch: dict[str, Tensor] = {}
        for k, part in enumerate(self._parts):
            rows = torch.nonzero(number == k).flatten()
            own = idx[rows] - self._starts[k]
            for key, values in gather(part, own, rows).items():
                if key not in batch:
                    batch[key] = values.new_empty(len(idx), *values.shape[1:])
                batch[key][rows] = values
        return batch


Windows: TypeAlias = WindowDataset | JoinedWindows
