"""The rows of a block: the data-side ends x_l of its training pairs, with their observations."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from lfm_policy.data.dataset import WindowDataset
from lfm_policy.flow import OUStep
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.auxiliary.targets import Targets
from lfm_policy.training.rows.joined import Windows
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.rows.prefixes import TrainingPrefixes
from lfm_policy.training.trainer import Rows

Condition: TypeAlias = dict[str, Tensor] | Tensor | None
"""Observations by name, for an encoder that is still learning, or their encoding (B, cond_dim)."""


class ChunkRows(Rows):
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
        obs_noise: ObsNoise | None = None,
        draws_other: bool = False,
        targets: Targets | None = None,
    ) -> None:
        """Read chunks from a dataset.

        Args:
            dataset: of M windows.
            pushed: (M, horizon, action_dim), takes the place of the demonstrated chunks.
            marginal: diffuses the demonstrated chunks.
            cond: (M, cond_dim), the encoded observations where they are known.
            prefixes: what is known of a chunk beforehand.
            obs_noise: displaces the observations in training.
            draws_other: whether a batch has second chunks, for the independent coupling.
            targets: what an encoder learns to tell besides.
        """
        self.dataset = dataset
        self._pushed = pushed
        self.marginal = marginal
        self._cond = cond
        self._prefixes = prefixes
        self._obs_noise = obs_noise
        self._draws_other = draws_other
        self._targets = targets

    @property
    def same_work(self) -> bool:  # type: ignore[override]
        """Whether nothing but tensors on the device is asked: no frames in files."""
        return self._cond is not None or self.dataset.in_memory

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.dataset.device

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, idx: Tensor, *, training: bool) -> tuple[Any, ...]:
        """Return x_l, the observations (or their encoding), other x_l if needed, and prefixes.

        Where an encoder has targets, these come last.
        """
        x_l = self.chunks(idx)
        condition = self.condition(idx, random_views=training)
        if training and self._obs_noise is not None and isinstance(condition, dict):
            # The encodings of a frozen encoder stay exact.
            condition = self._obs_noise.displace(condition)
        x_other = None
        if self._draws_other and training:
            x_other = self.chunks(torch.randint(len(self), idx.shape, device=self.device))
        elif self._draws_other:
            x_other = x_l.flip(0)
        batch = x_l, condition, x_other, self.prefix(idx, random=training)
        return batch if self._targets is None else (*batch, self._targets.of(self.dataset, idx))

    def prefetch(self, idx: Tensor) -> None:
        """Begin to gather the images of rows ``idx``."""
        if self._cond is None:
            self.dataset.prefetch(idx)

    def chunks(self, idx: Tensor) -> Tensor:
        """Return x_l, (B, horizon, action_dim) float32; marginals draw from torch's global RNG."""
        if self._pushed is not None:
            return self._pushed.index_select(0, idx.to(self._pushed.device))
        x_0 = self.dataset.gather_action(idx)
        return x_0 if self.marginal is None else self.marginal.diffuse(x_0)

    def condition(self, idx: Tensor, *, random_views: bool = False) -> Condition:
        """Return the encoded observations where they are known, else the observations.

        Where images have given way to features, these are of the centre crop, or of a view drawn
        from torch's global generator.
        """
        if self._cond is not None:
            return self._cond.index_select(0, idx.to(self._cond.device))
        views = None
        if random_views and self.dataset.n_views > 1:
            views = torch.randint(self.dataset.n_views, (len(idx),), device=self.device)
        return self.dataset.gather_obs(idx, views)

    def prefix(self, idx: Tensor, *, random: bool = False) -> Tensor | None:
        """Return what is added to the encoded observations, (B, size); None without prefixes.

        Their lengths are always the same; ``random`` ones come from torch's global generator,
        except for chunks that were pushed forward, which belong to the prefix they were pushed
        with.
        """
        if self._prefixes is None:
            return None
        demonstrated = self.dataset.gather_action(idx)
        return self._prefixes.features(idx, demonstrated, random=random and self._pushed is None)


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
