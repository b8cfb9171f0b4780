"""What a robomimic HDF5 file holds."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.tools.contents import ConfiguredContents, StoredArray, describe
from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from lfm_policy.data.dataset_config import DatasetConfig
    from lfm_policy.data.robomimic.file import KeyInfo

_DEMOS_NAMED = 4


class RobomimicContents(ConfiguredContents):
    """A robomimic HDF5 file: the actions and what is under ``obs``."""

    format = "robomimic"

    def __init__(self, path: Path, config_class: type[DatasetConfig]) -> None:
        """Read the metadata of the first demo.

        Raises:
            InputError: not a robomimic file, or one whose metadata do not parse.
        """
        from lfm_policy.data.robomimic.env import control_freq
        from lfm_policy.data.robomimic.summary import inspect_robomimic

        super().__init__(path, config_class)
        summary = inspect_robomimic(path)
        self._n_steps = sum(summary.demos.values())
        self.fps = control_freq(summary.env_args)
        if summary.env_problem:
            self.notes.append(
                f"{summary.env_problem}; training does without, evaluation will ask for --env"
            )
        self.notes += [f"filter key is not usable: {reason}" for reason in summary.unusable_masks]
        if summary.failed:
            failed = ", ".join(summary.failed[:_DEMOS_NAMED])
            if len(summary.failed) > _DEMOS_NAMED:
                failed += f" and {len(summary.failed) - _DEMOS_NAMED} more"
            self.notes.append(
                f"{len(summary.failed)} of {len(summary.demos)} demos are marked success = False "
                f"({failed}): they are read like the others; to leave them out, "
                "list the others as mask/<name> of the file and set dataset.filter_key"
            )
        for name, info in summary.keys.items():
            key = ACTION_KEY if name == "actions" else name.removeprefix("obs/")
            if key != name or name == "obs":
                self.stored[key] = self._described(name, info)

    def _described(self, name: str, info: KeyInfo) -> StoredArray:
        shape = (self._n_steps, *info.shape)
        if info.problem:
            reason = f"{self.path}: {name} {info.problem}"
            return StoredArray(shape, str(info.dtype), False, reason, unusable=True)
        return describe(
            name,
            shape,
            info.dtype,
            source=str(self.path),
            ranks=(1, 2, 3),
            is_camera=info.layout is not None,
        )

    def read_values(self) -> ReplayBuffer:
        """Return action and observations; see :meth:`Contents.read_values`.

        Observations that cannot be read are called unusable, and the others are read.
        """
        self._check_observations()
        try:
            return super().read_values()
        except InputError:
            keys = [key for key in self.low_dimensional if key != ACTION_KEY]
            unusable = {key: reason for key in keys if (reason := self._why_unreadable(key))}
            if not unusable or (len(unusable) == len(keys) and not self.cameras):
                raise
        for key, reason in unusable.items():
            self.stored[key] = replace(self.stored[key], not_read=reason, unusable=True)
        return super().read_values()

    def _check_observations(self) -> None:
        """Say why there is nothing to observe, if there is nothing."""
        observed = {key: array for key, array in self.stored.items() if key != ACTION_KEY}
        if not all(array.unusable for array in observed.values()):
            return
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(self.path) as file:
            file.observation_keys(file.demos[0])  # says what to do with a raw recording
        reasons = "; ".join(array.not_read for array in observed.values())
        raise InputError(f"{self.path}: holds nothing that a policy could observe: {reasons}")

    def _why_unreadable(self, key: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._load([key])
            except InputError as error:
                return str(error)
        return ""
