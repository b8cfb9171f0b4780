"""The targets of an encoder: numbers of the demonstrations that the policy does not observe."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import DatasetBundle, WindowDataset
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.images.cache import FrameShape, ImageCache
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.tasks.choice import untold
from lfm_policy.errors import InputError
from lfm_policy.options import declared, with_changes
from lfm_policy.policy.checkpoint import ALSO_TRAINED_ON, CheckpointHeader
from lfm_runtime.policy.spec import TASK_KEY, is_image

FINGERPRINT = "auxiliary_fingerprint"
"""What a checkpoint calls the identity of the targets, among what it says of its training."""


class Targets:
    """Normalised targets of every step of the demonstrations.

    Attributes:
        shapes: target -> shape of one step.
        values: (T, size) float32, all targets of a step one after the other.
        scale: (size,) by which a target is multiplied when it is normalised.
        variances: target -> mean variance of its numbers over the training split, normalised.
        spreads: target -> root of the same in the unit of the data.
        fingerprint: identity of the data, see `ReplayBuffer.fingerprint`.
    """

    def __init__(self, buffer: ReplayBuffer, normalizer: Normalizer) -> None:
        """Normalise what is in a buffer besides actions."""
        keys = [key for key in buffer.arrays if key != ACTION_KEY]
        self.shapes = {key: buffer.step_shape(key) for key in keys}
        self.values = torch.cat(
            [normalizer.normalize(k, _float64(buffer.arrays[k])).flatten(1) for k in keys], 1
        )
        self.scale = torch.cat([normalizer[key].scale.reshape(-1) for key in keys])
        self.variances, self.spreads = {}, {}
        for key in keys:
            std, scale = normalizer[key].std, normalizer[key].scale
            self.variances[key] = float((std * scale).square().mean())
            self.spreads[key] = math.sqrt(float(std.square().mean()))
        self.fingerprint = buffer.fingerprint()

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers of a step belong to each target, in their order."""
        return {key: math.prod(shape) for key, shape in self.shapes.items()}

    def of(self, windows: WindowDataset, idx: Tensor) -> Tensor:
        """Return the targets of the history of windows ``idx`` (B,): (B, n_obs_steps, size).

        Args:
            windows: of the same demonstrations, on the same device.
            idx: their numbers.
        """
        steps = windows.index.obs_indices.index_select(0, idx.to(self.values.device))
        return self.values.index_select(0, steps.reshape(-1)).view(*steps.shape, -1)

    def to(self, device: torch.device) -> Targets:
        """Return the same on another device."""
        moved = copy.copy(self)
        moved.values, moved.scale = self.values.to(device), self.scale.to(device)
        return moved

    def in_words(self) -> str:
        """Return their names, shapes and how far their values spread."""
        return ", ".join(
            f"{key} {tuple(shape)}, spread {self.spreads[key]:.3g}"
            for key, shape in self.shapes.items()
        )


def read_targets(
    config: ExperimentConfig, data: DatasetBundle, known: CheckpointHeader | None = None
) -> Targets | None:
    """Return the targets of a training; None where there are none.

    They are scaled like observations (``normalization.obs``), fitted on the training split.

    Args:
        config: of the training.
        data: its demonstrations, from the same dataset.
        known: the checkpoint that is continued.

    Raises:
        InputError: the dataset lacks one, or it is an image, the action, or observed, or their
            numbers are others than the checkpoint was trained on.
    """
    if not config.auxiliary.used:
        return None
    try:
        buffer = _read(config.dataset, config.auxiliary.keys)
        if observed := [key for key in buffer.arrays if key in data.obs_shapes]:
            raise InputError(
                f"the policy observes '{observed[0]}': targets are what the robot lacks; take it "
                "out of auxiliary.keys, or name the observations without it in dataset.obs_keys"
            )
        if buffer.n_steps != data.train.n_frames:
            raise InputError(
                f"{buffer.source}: they have {buffer.n_steps} steps, the observations "
                f"{data.train.n_frames}"
            )
        steps = buffer.steps_of(data.train_episodes)
        fitted = {key: array[steps] for key, array in buffer.arrays.items() if key != ACTION_KEY}
        targets = Targets(buffer, Normalizer.fit(fitted, config.normalization.obs))
        if known is not None and known.training.get(FINGERPRINT) != targets.fingerprint:
            raise InputError(
                f"{known.folder}: was trained on other numbers of these; give the same dataset, or "
                "start anew in another folder"
            )
        return targets
    except InputError as error:
        raise InputError(f"auxiliary.keys is {config.auxiliary.keys}: {error}") from None


def also_trained_on(config: ExperimentConfig, *before: CheckpointHeader | None) -> set[str]:
    """Return what an encoder has learnt to tell after a training, and in those before it."""
    known = {name for header in before if header is not None for name in header.also_trained_on}
    return known.union(config.auxiliary.keys if config.auxiliary.used else ())


def marks(names: set[str], targets: Targets | None) -> dict[str, object]:
    """Return what a checkpoint says of this; nothing where there is nothing to say."""
    found: dict[str, object] = {}
    if names:
        found[ALSO_TRAINED_ON] = sorted(names)
    if targets is not None:
        found[FINGERPRINT] = targets.fingerprint
    return found


def refuse_targets(config: ExperimentConfig, *, has_weights: bool) -> None:
    """Check that no targets are given to an encoder that does not learn.

    Raises:
        InputError: there are some; the message says why it does not.
    """
    if not config.auxiliary.used:
        return
    reason = f"the encoder '{config.encoder.name}' has nothing to train"
    if has_weights:
        reason = f"the encoder stays as it is (init.encoder is '{config.init.encoder}')"
    raise InputError(
        f"auxiliary.keys is {config.auxiliary.keys}, which an encoder is to learn to tell, but "
        f"{reason}; train without them: auxiliary.keys=[]"
    )


def _read(dataset: DatasetConfig, keys: list[str]) -> ReplayBuffer:
    """Read action and targets as if these were observed, in whatever format."""
    known = declared(type(dataset)).keys()
    if not {"obs_keys", "rename"} <= known:
        raise InputError(
            f"the dataset format '{dataset.name}' has no options obs_keys and rename, by which "
            "targets are read"
        )
    changes: dict[str, Any] = {"obs_keys": list(keys)}
    for name in {"rename", "depth"} & known:  # what is said of single observations
        said = getattr(dataset, name)
        changes[name] = {key: value for key, value in said.items() if key in keys}
    chosen = with_changes(dataset, changes)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        buffer = chosen.load(ImageCache(Path(), _refuse_image))
    for warning in told:  # what concerns the action was said when the demonstrations were read
        if any(key in str(warning.message) for key in keys):
            warnings.warn(warning.message, stacklevel=2)
    for key, array in buffer.arrays.items():
        if is_image(array.shape[1:]):  # of a format that keeps its frames in another way
            _refuse_image(key, (array.shape[1], array.shape[2], array.shape[3]))
    # What dataset.tasks tells the policy is no target, unless it is asked for.
    return buffer if TASK_KEY in keys else untold(buffer)


def _refuse_image(key: str, frame_shape: FrameShape) -> tuple[int, int]:
    raise InputError(f"'{key}' are images {frame_shape}: targets are numbers, such as a pose")


def _float64(array: np.ndarray) -> Tensor:
    # through numpy: torch knows neither all dtypes of files nor foreign byte orders
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
