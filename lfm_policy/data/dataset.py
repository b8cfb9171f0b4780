"""Datasets as tensors: batches are gathered by index, without Python per sample."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.normalizer import DEFAULT_MODE, Normalizer
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.split import split_episodes
from lfm_policy.data.windows import WindowIndex


class WindowDataset:
    """Normalised windows of a buffer.

    Holds one contiguous float32 tensor (T, ...) per key and gathers rows of it, so a window costs
    its index and not a copy of its data.
    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        normalizer: Normalizer,
        index: WindowIndex,
        obs_keys: Sequence[str],
    ) -> None:
        """Normalise the arrays.

        Args:
            buffer: holds ``"action"`` and every observation key.
            normalizer: knows all of them.
            index: windows into ``buffer``; it may cover only some of the episodes.
            obs_keys: what :meth:`gather_obs` returns, in this order.

        Raises:
            InputError: the normaliser lacks a key or was fitted on another shape.
        """
        self.index = index
        self.obs_keys = tuple(obs_keys)
        self._tensors = {
            key: normalizer.normalize(key, _float_tensor(buffer.arrays[key]))
            for key in (ACTION_KEY, *self.obs_keys)
        }

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.index)

    @property
    def device(self) -> torch.device:
        """Where the data and the batches are."""
        return self._tensors[ACTION_KEY].device

    @property
    def action_shape(self) -> tuple[int, int]:
        """Shape of one chunk: (horizon, action_dim)."""
        return self.index.horizon, self._tensors[ACTION_KEY].shape[1]

    def gather_action(self, idx: Tensor) -> Tensor:
        """Return normalised chunks.

        Args:
            idx: (B,) int64 window numbers on the dataset's device.

        Returns:
            (B, horizon, action_dim) float32.
        """
        return self._gather(ACTION_KEY, self.index.indices.index_select(0, idx))

    def gather_obs(self, idx: Tensor) -> dict[str, Tensor]:
        """Return normalised observation histories.

        Args:
            idx: (B,) int64 window numbers on the dataset's device.

        Returns:
            key -> (B, n_obs_steps, ...) float32.
        """
        steps = self.index.obs_indices.index_select(0, idx)
        return {key: self._gather(key, steps) for key in self.obs_keys}

    def with_index(self, index: WindowIndex) -> WindowDataset:
        """Return a dataset of other windows that shares this one's tensors."""
        other = copy.copy(self)
        other.index = index.to(self.device)
        return other

    def to(self, device: str | torch.device) -> WindowDataset:
        """Return the same dataset on ``device``."""
        moved = copy.copy(self)
        moved.index = self.index.to(device)
        moved._tensors = {key: tensor.to(device) for key, tensor in self._tensors.items()}
        return moved

    def _gather(self, key: str, steps: Tensor) -> Tensor:
        values = self._tensors[key]
        return values.index_select(0, steps.reshape(-1)).view(*steps.shape, *values.shape[1:])


def _float_tensor(array: np.ndarray) -> Tensor:
    # through numpy: torch knows neither all dtypes of files nor foreign byte orders
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


@dataclass(frozen=True)
class DatasetBundle:
    """All that training and the checkpoint need to know of a dataset.

    Attributes:
        train: windows of the training episodes.
        validation: windows of the validation episodes; None without any. Shares its tensors with
            ``train``.
        normalizer: fitted on the training episodes only.
        obs_shapes: observation key -> shape of one step, in the configured order.
        action_dim: length of one action.
        action_limits: (2, action_dim) float32: smallest and largest training action, raw.
        fingerprint: identity of the data, see :meth:`ReplayBuffer.fingerprint`.
        train_episodes: indices of the training episodes, int64, sorted.
        validation_episodes: indices of the validation episodes, int64, sorted.
        source: where the data came from.
    """

    train: WindowDataset
    validation: WindowDataset | None
    normalizer: Normalizer
    obs_shapes: dict[str, tuple[int, ...]]
    action_dim: int
    action_limits: Tensor
    fingerprint: str
    train_episodes: np.ndarray
    validation_episodes: np.ndarray
    source: str


def build_datasets(
    config: DatasetConfig,
    n_obs_steps: int,
    horizon: int,
    n_action_steps: int,
    normalization: Mapping[str, str] | str = DEFAULT_MODE,
) -> DatasetBundle:
    """Load, split by episode, fit the normaliser on the training split and index the windows.

    Args:
        config: says what to load and how to split it.
        n_obs_steps: frames of history.
        horizon: length of a chunk.
        n_action_steps: how much of a chunk is executed.
        normalization: modes as in :meth:`Normalizer.fit`.

    Raises:
        InputError: the data or an option are not what they have to be.
    """
    buffer = config.load()
    obs_keys = tuple(key for key in buffer.arrays if key != ACTION_KEY)
    train_episodes, validation_episodes = split_episodes(
        buffer.n_episodes, config.validation_ratio, config.split_seed
    )

    def windows(episodes: np.ndarray, split: str) -> WindowIndex:
        return WindowIndex(
            buffer.episode_ends,
            n_obs_steps,
            horizon,
            n_action_steps,
            episodes=episodes,
            source=f"{buffer.source} ({split} split)",
        )

    train_index = windows(train_episodes, "training")
    train_steps = buffer.steps_of(train_episodes)
    normalizer = Normalizer.fit(
        {key: array[train_steps] for key, array in buffer.arrays.items()}, normalization
    )
    train = WindowDataset(buffer, normalizer, train_index, obs_keys)
    validation = None
    if len(validation_episodes):
        validation = train.with_index(windows(validation_episodes, "validation"))
    action = normalizer[ACTION_KEY]
    return DatasetBundle(
        train=train,
        validation=validation,
        normalizer=normalizer,
        obs_shapes={key: buffer.arrays[key].shape[1:] for key in obs_keys},
        action_dim=buffer.arrays[ACTION_KEY].shape[1],
        action_limits=torch.stack([action.min, action.max]),
        fingerprint=buffer.fingerprint(),
        train_episodes=train_episodes,
        validation_episodes=validation_episodes,
        source=buffer.source,
    )
