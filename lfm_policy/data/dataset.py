"""Datasets as tensors: batches are gathered by index, without Python per sample."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.images.frames import Frames
from lfm_policy.data.images.resize import resized_frames
from lfm_policy.data.normalizer import DEFAULT_MODE, Normalizer
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.resolution import coarse_elements, coarse_message, is_wide
from lfm_policy.data.split import split_episodes
from lfm_policy.data.windows import (
    WindowIndex,
    check_any_window,
    check_horizons,
    warn_of_short_episodes,
    windows_of_lengths,
)
from lfm_policy.errors import InputError
from lfm_runtime.policy.spec import TASK_KEY, is_image


class WindowDataset:
    """Normalised windows of a buffer.

    Holds one contiguous float32 tensor (T, ...) per key and gathers rows of it, so a window costs
    its index and not a copy of its data. Camera images stay uint8 where they are, see `Frames`;
    once an encoder is frozen, their features may stand in for them (`with_features`).

    Attributes:
        exact_keys: observations that noise would make something else of, such as the task.
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
            normalizer: knows all of them but the images.
            index: windows into ``buffer``; it may cover only some of the episodes.
            obs_keys: what :meth:`gather_obs` returns, in this order.

        Raises:
            InputError: the normaliser lacks a key or was fitted on another shape.
        """
        self.index = index
        self.obs_keys = tuple(obs_keys)
        self.n_frames = buffer.n_steps
        self.exact_keys = (TASK_KEY,) if buffer.tasks else ()
        self.episode_ends = buffer.episode_ends
        self._frames = {
            key: Frames(buffer.arrays[key])
            for key in self.obs_keys
            if is_image(buffer.arrays[key].shape[1:])
        }
        self._features: dict[str, Tensor] = {}
        self._tensors = {
            key: normalizer.normalize(key, _tensor(buffer.arrays[key], normalizer[key].origin))
            for key in (ACTION_KEY, *self.obs_keys)
            if key not in self._frames
        }

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.index)

    @property
    def device(self) -> torch.device:
        """Where the data and the batches are."""
        return self._tensors[ACTION_KEY].device

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self._frames)

    @property
    def in_memory(self) -> bool:
        """Whether batches are gathered from tensors alone, on the device, without mapped files."""
        return all(self._frames[key].on_gpu for key in self._frames.keys() - self._features.keys())

    @property
    def n_views(self) -> int:
        """Number of views of every frame whose features are known, 0 without features."""
        return next((len(features) for features in self._features.values()), 0)

    def gather_action(self, idx: Tensor) -> Tensor:
        """Return normalised chunks.

        Args:
            idx: (B,) int64 window numbers.

        Returns:
            (B, horizon, action_dim) float32.
        """
        steps = self.index.indices.index_select(0, idx.to(self.device))
        return self._gather(ACTION_KEY, steps)

    def gather_obs(
        self, idx: Tensor, views: Tensor | None = None, *, images: bool = True
    ) -> dict[str, Tensor]:
        """Return observation histories.

        Args:
            idx: (B,) int64 window numbers.
            views: (B,) int64, which view of its frames each window takes, where features are
                known; view 0 (the centre) by default.
            images: whether to gather camera images, or their features, too.

        Returns:
            key -> (B, n_obs_steps, ...): normalised float32; uint8 for images, or float32
            (B, n_obs_steps, feature_dim) where their features are known.
        """
        steps = self.index.obs_indices.index_select(0, idx.to(self.device))
        obs = {}
        for key in self.obs_keys:
            if key in self._frames and not images:
                continue
            if key in self._features:
                view: Tensor | int = 0 if views is None else views.to(self.device)[:, None]
                obs[key] = self._features[key][view, steps]
            elif key in self._frames:
                obs[key] = self._frames[key].gather(steps)
            else:
                obs[key] = self._gather(key, steps)
        return obs

    def prefetch(self, idx: Tensor) -> None:
        """Begin to gather the images of windows ``idx`` (B,), which will be asked for soon."""
        if self._frames and not self._features:
            steps = self.index.obs_indices.cpu().index_select(0, idx.cpu())
            for frames in self._frames.values():
                frames.prefetch(steps)

    def frames(self, key: str, begin: int, end: int) -> Tensor:
        """Return frames of a camera, all episodes one after the other, uint8 (n, H, W, C)."""
        return self._frames[key].gather(torch.arange(begin, end))

    def with_features(self, features: Mapping[str, Tensor]) -> WindowDataset:
        """Return the same windows with features in place of images.

        Args:
            features: camera -> (views, n_frames, feature_dim) float32, of every frame of the
                buffer; view 0 is the centre crop.
        """
        other = copy.copy(self)
        other._features = {key: value.to(self.device) for key, value in features.items()}
        # What is seldom asked for from now on does not stay in a GPU's memory.
        unloaded = {key: self._frames[key].unloaded() for key in features if key in self._frames}
        other._frames = {**self._frames, **unloaded}
        return other

    def with_index(self, index: WindowIndex) -> WindowDataset:
        """Return a dataset of other windows that shares this one's tensors."""
        other = copy.copy(self)
        other.index = index.to(self.device)
        return other

    def with_index_of(self, other: WindowDataset | None) -> WindowDataset | None:
        """Return this dataset's data for the windows of another one; None for none."""
        return None if other is None else self.with_index(other.index)

    def to(self, device: str | torch.device) -> WindowDataset:
        """Return the same dataset on ``device``."""
        moved, device = copy.copy(self), torch.device(device)
        moved.index = self.index.to(device)
        moved._tensors = {key: tensor.to(device) for key, tensor in self._tensors.items()}
        moved._frames = {key: frames.to(device) for key, frames in self._frames.items()}
        return moved

    def _gather(self, key: str, steps: Tensor) -> Tensor:
        values = self._tensors[key]
        return values.index_select(0, steps.reshape(-1)).view(*steps.shape, *values.shape[1:])


def _tensor(array: np.ndarray, origin: Tensor | None) -> Tensor:
    # through numpy: torch knows neither all dtypes of files nor foreign byte orders
    dtype = np.float32 if origin is None else np.float64
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))


@dataclass(frozen=True)
class DatasetBundle:
    """All that training and the checkpoint need to know of a dataset.

    Attributes:
        train: windows of the training episodes.
        validation: windows of the validation episodes; None without any. Shares its tensors with
            ``train``.
        normalizer: fitted on the training episodes only.
        obs_shapes: observation key -> shape of one step, in the configured order; of images as
            they were recorded.
        action_dim: length of one action.
        float64_keys: observations, or ``"action"``, whose values float32 cannot tell apart: they
            are exchanged in float64.
        fingerprint: identity of the data, see :meth:`ReplayBuffer.fingerprint`.
        train_episodes: indices of the training episodes, int64, sorted.
        validation_episodes: indices of the validation episodes, int64, sorted.
        left_out_episodes: indices of the episodes too short for a window, int64, sorted; nothing
            is learned from them, not even the normaliser.
        source: where the data came from.
        depth: cameras of depth, see `DataSpec`.
        tasks: that the observation ``task`` tells apart, see `DataSpec`.
    """

    train: WindowDataset
    validation: WindowDataset | None
    normalizer: Normalizer
    obs_shapes: dict[str, tuple[int, ...]]
    action_dim: int
    float64_keys: tuple[str, ...]
    fingerprint: str
    train_episodes: np.ndarray
    validation_episodes: np.ndarray
    left_out_episodes: np.ndarray
    source: str
    depth: dict[str, tuple[float, float]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


def build_datasets(
    config: DatasetConfig,
    n_obs_steps: int,
    horizon: int,
    n_action_steps: int,
    normalization: Mapping[str, str] | str = DEFAULT_MODE,
    *,
    image_cache: ImageCache | Path | None = None,
    kept: Normalizer | None = None,
    quiet: bool = True,
) -> DatasetBundle:
    """Load, split by episode, fit the normaliser on the training split and index the windows.

    Args:
        config: says what to load and how to split it.
        n_obs_steps: frames of history.
        horizon: length of a chunk.
        n_action_steps: how much of a chunk is executed.
        normalization: modes as in :meth:`Normalizer.fit`.
        image_cache: where decoded images are kept, and at which size; without their frames the
            data have no fingerprint.
        kept: an earlier normaliser, whose transforms stay, see `Normalizer.keeping`.
        quiet: no progress bars.

    Raises:
        InputError: the data or an option are not what they have to be, or every episode is too
            short for a window. Episodes that are too short among others are left out with a
            warning, and so is validation where only one episode is left.
    """
    check_horizons(n_obs_steps, horizon, n_action_steps)
    buffer = config.load(image_cache, quiet=quiet)
    blank = isinstance(image_cache, ImageCache) and image_cache.blank
    fingerprint = "" if blank else buffer.fingerprint()
    buffer = _resized(buffer, image_cache)
    obs_keys = tuple(key for key in buffer.arrays if key != ACTION_KEY)
    lengths = buffer.episode_lengths
    horizons = (n_obs_steps, horizon, n_action_steps)
    only = config.max_episodes  # an option may have kept longer ones out
    limited = "" if only is None else f" (with dataset.max_episodes {only})"
    check_any_window(lengths, *horizons, source=f"{buffer.source}{limited}")
    usable = windows_of_lengths(lengths, *horizons) > 0
    train_episodes, validation_episodes = split_episodes(
        buffer.n_episodes, config.validation_ratio, config.split_seed, usable=usable
    )
    warn_of_short_episodes(lengths, *horizons, source=buffer.source)
    if config.validation_ratio > 0 and not len(validation_episodes):
        warnings.warn(
            f"{buffer.source}: nothing is kept for validation, because there is only one episode "
            "to learn from; dataset.validation_ratio=0 says that this is meant",
            stacklevel=2,
        )

    def windows(episodes: np.ndarray, split: str) -> WindowIndex:
        source = f"{buffer.source} ({split} split)"
        return WindowIndex(buffer.episode_ends, *horizons, episodes=episodes, source=source)

    train_steps = buffer.steps_of(train_episodes)
    fitted = {k: v[train_steps] for k, v in buffer.arrays.items() if not is_image(v.shape[1:])}
    for key, array in fitted.items():
        if elements := coarse_elements(array):  # the file itself has made them nearly constant
            message = f"{buffer.source}: {coarse_message(key, array, elements)}"
            if key == ACTION_KEY:
                raise InputError(message)
            warnings.warn(message, stacklevel=2)
    normalizer = Normalizer.fit(fitted, normalization, buffer.unscaled)
    if kept is not None:
        normalizer = normalizer.keeping(kept)
    train = WindowDataset(buffer, normalizer, windows(train_episodes, "training"), obs_keys)
    validation = None
    if len(validation_episodes):
        validation = train.with_index(windows(validation_episodes, "validation"))
    return DatasetBundle(
        train=train,
        validation=validation,
        normalizer=normalizer,
        obs_shapes={key: buffer.step_shape(key) for key in obs_keys},
        action_dim=buffer.arrays[ACTION_KEY].shape[1],
        float64_keys=tuple(
            key
            for key in tuple(normalizer.keys())
            if normalizer[key].origin is not None and is_wide(buffer.arrays[key].dtype)
        ),
        fingerprint=fingerprint,
        train_episodes=train_episodes,
        validation_episodes=validation_episodes,
        left_out_episodes=np.flatnonzero(~usable),
        source=buffer.source,
        depth=dict(buffer.depth),
        tasks=buffer.tasks,
    )


def _resized(buffer: ReplayBuffer, cache: ImageCache | Path | None) -> ReplayBuffer:
    """Return the buffer with frames of the size asked for, whatever its format made of them."""
    if not isinstance(cache, ImageCache):
        return buffer
    arrays, recorded = dict(buffer.arrays), dict(buffer.recorded)
    for key, array in buffer.arrays.items():
        if is_image(array.shape[1:]):
            height, width, channels = recorded.setdefault(key, array.shape[1:])
            size = cache.size_of(key, (height, width, channels))
            arrays[key] = resized_frames(array, size)
    return replace(buffer, arrays=arrays, recorded=recorded)
