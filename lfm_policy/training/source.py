"""Where the data-side ends x_l of a block's training pairs come from, with their observations."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.joined import Windows
from lfm_policy.flow import OUStep
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.prefixes import TrainingPrefixes

Condition: TypeAlias = dict[str, Tensor] | Tensor | None
"""Observations by name, for an encoder that is still learning, or their encoding (B, cond_dim)."""


class ChunkSource:
    """Training chunks of one block, row r belonging to window r of the dataset.

    Block 1 reads the demonstrations. Later blocks read what earlier blocks pushed forward
    (``pushed``) or, in the parallel mode, the exact OU marginal of the demonstrations
    (``marginal``), drawn anew each time.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        *,
        pushed: Tensor | None = None,
        marginal: OUStep | None = None,
        cond: Tensor | None = None,
        prefixes: TrainingPrefixes | None = None,
    ) -> None:
        self.dataset = dataset
        self.prefixes = prefixes
        self.pushed = pushed
        self.marginal = marginal
        self.cond = cond

    def __len__(self) -> int:
        return len(self.dataset)

    def chunks(self, idx: Tensor) -> Tensor:
        """Return x_l, (B, horizon, action_dim) float32; marginals draw from torch's global RNG."""
        if self.pushed is not None:
            return self.pushed.index_select(0, idx.to(self.pushed.device))
        x_0 = self.dataset.gather_action(idx)
        return x_0 if self.marginal is None else self.marginal.diffuse(x_0)

    def condition(self, idx: Tensor, *, random_views: bool = False) -> Condition:
        """Return the encoded observations where they are known, else the observations.

        Where images have given way to features, these are of the centre crop, or of a view drawn
        from torch's global generator.
        """
        if self.cond is not None:
            return self.cond.index_select(0, idx.to(self.cond.device))
        views = None
        if random_views and self.dataset.n_views > 1:
            views = torch.randint(self.dataset.n_views, (len(idx),))
        return self.dataset.gather_obs(idx, views)

    def prefix(self, idx: Tensor, *, random: bool = False) -> Tensor | None:
        """Return what is added to the encoded observations, (B, size); None without prefixes.

        Their lengths are always the same; ``random`` ones come from torch's global generator,
        except for chunks that were pushed forward, which belong to the prefix they were pushed
        with.
        """
        if self.prefixes is None:
            return None
        demonstrated = self.dataset.gather_action(idx)
        return self.prefixes.features(idx, demonstrated, random=random and self.pushed is None)


@torch.no_grad()
def encode_all(model: PolicyModel, dataset: Windows, batch_size: int) -> Tensor | None:
    """Return the encoding of every window, (M, cond_dim), by a frozen encoder.

    None when the encoder has no parameters, or images whose features are known: then encoding a
    batch costs little more than gathering its encoding, and memory is saved.
    """
    if not model.encoder.has_parameters or model.encoder.image_keys:
        return None
    model.encoder.eval()
    parts = []
    for begin in range(0, len(dataset), batch_size):
        idx = torch.arange(begin, min(begin + batch_size, len(dataset)), device=dataset.device)
        parts.append(model.encoder(dataset.gather_obs(idx)))
    return torch.cat(parts)
