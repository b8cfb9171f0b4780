"""Dataset format ``robomimic``: HDF5 files of robomimic, MimicGen and tools like them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer, is_image
from lfm_policy.data.zarr_format import check_rename
from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from lfm_policy.data.robomimic_file import KeyInfo, RobomimicFile

STORED_ABSOLUTE = "actions_abs"
"""What robomimic and Diffusion Policy call goals: position 3, axis-angle 3, gripper 1 per arm."""

_ACTION_SPACES = ("stored", "absolute")
_RANKS = (1, 2, 3)
"""Ranks of low-dimensional arrays, time included; of one step they are 0 to 2."""


class ActionRangeWarning(UserWarning):
    """Actions are outside what robomimic's controllers take."""


@dataclass
class RobomimicConfig(DatasetConfig):
    """A robomimic HDF5 file: which demos and arrays are read and what they are called."""

    name: str = field(default="robomimic", metadata={"help": "dataset format"})
    path: str = field(default="", metadata={"help": "HDF5 file with data/demo_N/actions and obs/"})
    action_key: str = field(
        default="actions", metadata={"help": "array of a demo to imitate, e.g. actions_abs"}
    )
    action_space: str = field(
        default="stored",
        metadata={
            "help": "stored: actions as they are in the file; absolute: goals in the world instead "
            "of deltas, per arm position 3, rotation 6 (never scaled) and gripper 1, converted "
            "once when the file is loaded (from actions_abs where it is there)",
            "choices": _ACTION_SPACES,
        },
    )
    obs_keys: list[str] = field(
        default_factory=list,
        metadata={
            "help": "arrays under obs/ that the policy observes; none means all low-dimensional "
            "arrays and uint8 images of the first demo"
        },
    )
    rename: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "what the policy calls an array, such as {agentview_image: image}; by default "
            "what the file calls it"
        },
    )
    filter_key: str | None = field(
        default=None, metadata={"help": "read only the demos of mask/<filter_key>; all by default"}
    )

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            InputError: one is outside its range or contradicts another.
        """
        super().__post_init__()
        if self.action_space not in _ACTION_SPACES:
            raise InputError(
                f"action_space is '{self.action_space}', expected one of "
                f"{', '.join(_ACTION_SPACES)}"
            )
        if len(set(self.obs_keys)) != len(self.obs_keys):
            raise InputError(f"obs_keys {list(self.obs_keys)} names a key twice")
        if self.obs_keys:  # otherwise they are known when the file is open
            check_rename(self.rename, self.obs_keys)

    def load(self, image_cache: Path | None = None, *, quiet: bool = True) -> ReplayBuffer:
        """Read action and observations; see :meth:`DatasetConfig.load`.

        Warns:
            ActionRangeWarning: stored actions outside -1 to 1, as absolute ones are.
            UserWarning: arrays under obs/ that nobody named are left out, because they are
                neither low-dimensional nor uint8 images.
        """
        # here and not above: a policy that only acts has no use for HDF5
        from lfm_policy.data.robomimic_file import RobomimicFile, robomimic_images

        if not self.path:
            raise InputError("the dataset has no path: set dataset.path to a robomimic HDF5 file")
        with RobomimicFile(self.path) as file:
            if file.has_env_args:
                file.env_args()  # what evaluation needs is better checked before training
            demos = file.select(self.filter_key)[: self.max_episodes]
            obs_keys = self._observed(file, demos[0])
            check_rename(self.rename, obs_keys)
            absolute = self.action_space == "absolute"
            action_key = self._stored_actions(file, demos[0])
            lengths = file.lengths(demos, action_key)
            actions = file.info(demos, action_key, lengths, ranks=(1, 2))
            observed = {
                key: file.info(demos, f"obs/{key}", lengths, ranks=(*_RANKS, 4)) for key in obs_keys
            }
            self._check_kinds(observed)
            action = file.read(demos, action_key, lengths, actions)
            unscaled = {}
            if absolute:
                from lfm_policy.data.absolute_actions import read_absolute_actions

                action, rotations = read_absolute_actions(file, demos, lengths, action, action_key)
                unscaled = {ACTION_KEY: rotations}
            observations = {
                key: file.read(demos, f"obs/{key}", lengths, info)
                for key, info in observed.items()
                if not is_image(info.shape)
            }

        n_steps = sum(lengths)
        for key, info in observed.items():
            if is_image(info.shape):
                images = robomimic_images(self.path, f"obs/{key}", demos, n_steps, info.shape)
                observations[key] = images.open(image_cache, quiet=quiet)
        renamed = {self.rename.get(key, key): observations[key] for key in obs_keys}
        buffer = ReplayBuffer(
            arrays={ACTION_KEY: action, **renamed},
            episode_ends=np.cumsum(lengths, dtype=np.int64),
            source=self.path,
            unscaled=unscaled,
        )
        buffer.validate()
        if not absolute:
            self._warn_of_range(action)
        return buffer

    def _stored_actions(self, file: RobomimicFile, demo: str) -> str:
        """Return the name of the actions to read: goals where they are wanted and there."""
        wanted = self.action_space == "absolute" and self.action_key == "actions"
        return (
            STORED_ABSOLUTE if wanted and STORED_ABSOLUTE in file.stored(demo) else self.action_key
        )

    def _observed(self, file: RobomimicFile, demo: str) -> list[str]:
        there = file.observation_keys(demo)
        if self.obs_keys:
            return list(self.obs_keys)
        stored = file.stored(demo)
        usable = [key for key in there if _is_usable(stored.get(f"obs/{key}"))]
        left_out = [key for key in there if key not in usable]
        if not usable:
            raise InputError(
                f"{self.path}: {demo} has neither low-dimensional arrays nor uint8 images under "
                f"obs, only: {', '.join(left_out)}"
            )
        if left_out:
            warnings.warn(
                f"{self.path}: left out, because neither low-dimensional nor uint8 images: "
                f"{', '.join(left_out)}; name obs_keys to choose",
                stacklevel=3,
            )
        return usable

    def _check_kinds(self, observed: dict[str, KeyInfo]) -> None:
        for key, info in observed.items():
            if is_image(info.shape) and info.dtype != np.uint8:
                raise InputError(
                    f"{self.path}: obs/{key} holds {info.dtype} {info.shape} per step; expected "
                    "uint8 images (depth is not supported)"
                )
            if len(info.shape) == 3 and not is_image(info.shape):
                raise InputError(
                    f"{self.path}: obs/{key} has shape {info.shape} per step; expected at most 2 "
                    "dimensions, or an image (height, width, 1, 3 or 4)"
                )

    def _warn_of_range(self, actions: np.ndarray) -> None:
        low, high = actions.min(), actions.max()
        if low < -1 or high > 1:
            warnings.warn(
                f"{self.path}: {self.action_key} range from {low:g} to {high:g}; robomimic's "
                "controllers take -1 to 1 unless the actions are absolute",
                ActionRangeWarning,
                stacklevel=3,
            )


def _is_usable(info: KeyInfo | None) -> bool:
    if info is None or info.dtype.kind not in "fiub" or 0 in info.shape:
        return False
    if is_image(info.shape):
        return info.dtype == np.uint8
    return len(info.shape) + 1 in _RANKS
