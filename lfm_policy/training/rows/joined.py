"""Windows of several datasets as one, such as demonstrations and recordings."""

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
    def exact_keys(self) -> tuple[str, ...]:
        """Observations that get no noise, see `WindowDataset.exact_keys`."""
        return self._parts[0].exact_keys

    @property
    def in_memory(self) -> bool:
        """Whether batches are gathered from tensors alone, see `WindowDataset.in_memory`."""
        return all(part.in_memory for part in self._parts)

    @property
    def n_views(self) -> int:
        """Number of views of every frame whose features are known, 0 without features."""
        return self._parts[0].n_views

    def gather_action(self, idx: Tensor) -> Tensor:
        """Return normalised chunks, see `WindowDataset.gather_action`."""
        return self._gather(idx, lambda part, own, _: {"action": part.gather_action(own)})["action"]

    def gather_obs(
        self, idx: Tensor, views: Tensor | None = None, *, images: bool = True
    ) -> dict[str, Tensor]:
        """Return observation histories, see `WindowDataset.gather_obs`."""

        def gather(part: WindowDataset, own: Tensor, rows: Tensor) -> dict[str, Tensor]:
            own_views = None if views is None else views.to(rows.device)[rows]
            return part.gather_obs(own, own_views, images=images)

        return self._gather(idx, gather)

    def prefetch(self, idx: Tensor) -> None:
        """Begin to gather the images of windows ``idx``, see `WindowDataset.prefetch`."""
        for part, first in zip(self._parts, self._starts, strict=False):
            own = idx.cpu() - first
            part.prefetch(own[(own >= 0) & (own < len(part))])

    def _gather(
        self, idx: Tensor, gather: Callable[[WindowDataset, Tensor, Tensor], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        idx = idx.to(self.device)
        if self.device.type != "cpu" and self.in_memory:
            return self._gather_all(idx, gather)
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

    def _gather_all(
        self, idx: Tensor, gather: Callable[[WindowDataset, Tensor, Tensor], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the same by asking every part for every row, and keeping those that are its own.

        How many these are is then nothing that a GPU would have to be waited for.
        """
        rows = torch.arange(len(idx), device=idx.device)
        batch: dict[str, Tensor] = {}
        for k, part in enumerate(self._parts):
            own = idx - self._starts[k]
            is_own = (own >= 0) & (own < len(part))
            for key, values in gather(part, own.clamp(0, len(part) - 1), rows).items():
                mask = is_own.view(-1, *(1,) * (values.ndim - 1))
                batch[key] = torch.where(mask, values, batch[key]) if key in batch else values
        return batch


Windows: TypeAlias = WindowDataset | JoinedWindows
