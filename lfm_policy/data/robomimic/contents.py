"""What a robomimic HDF5 file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.robomimic.names import some_names
from lfm_policy.data.tools.broken import broken_in_words
from lfm_policy.data.tools.contents import (
    ConfiguredContents,
    StoredArray,
    action_alone,
    describe,
)
from lfm_policy.errors import InputError
from lfm_policy.text.numbers import counted

if TYPE_CHECKING:
    from lfm_policy.data.dataset_config import DatasetConfig
    from lfm_policy.data.robomimic.file import KeyInfo

_ACTIONS = "actions"
_DEMOS_NAMED = 4


class RobomimicContents(ConfiguredContents):
    """A robomimic HDF5 file: the actions and what is under ``obs``.

    Actions are those that are asked for, else ``actions``, else the only array beside ``obs`` that
    is called so.
    """

    format = "robomimic"

    def __init__(self, path: Path, config_class: type[DatasetConfig], action_key: str = "") -> None:
        """Read the metadata of all demos.

        Raises:
            InputError: not a robomimic file, or one whose metadata do not parse.
        """
        from lfm_policy.data.robomimic.broken import StoredInDemos
        from lfm_policy.data.robomimic.env import control_freq
        from lfm_policy.data.robomimic.file import RobomimicFile

        super().__init__(path, config_class)
        with RobomimicFile(path) as file:
            stored = StoredInDemos.of(file)
            keys = {name: stored.usual(name) for name in stored.infos}
            beside = [name for name in keys if not name.startswith("obs/")]
            if action_key or _ACTIONS not in keys:
                self.action_key = action_key or action_alone(beside)
            self._n_demos = len(file.demos)
            self._n_steps = sum(file.num_samples(demo) for demo in file.demos)
            try:
                self.fps = control_freq(file.env_args())
            except InputError as error:
                self.notes.append(f"{error}; training does without, evaluation will ask for --env")
            lists, demos = file.filter_keys(), file.demos
            failed = [demo for demo in demos if file.is_marked_failed(demo)]
            actions = self.action_key or _ACTIONS
            for name, info in keys.items():
                key = name.removeprefix("obs/")
                if name == actions:
                    self.stored[ACTION_KEY] = self._described(name, info)
                elif name == "obs" or name.startswith("obs/"):
                    array = self._described(name, info)
                    if not array.unusable:
                        rows = stored.other_rows(name, actions)
                        broken = stored.differing(name, rows)
                        array = self._unless_broken(name, array, rows, broken)
                    self.stored[key] = array
        self.notes += [
            f"filter key is not usable: {error}"
            for error in lists.values()
            if isinstance(error, InputError)
        ]
        usable = {key: demos for key, demos in lists.items() if isinstance(demos, tuple)}
        if usable:
            counts = [f"{key} ({counted(len(demos), 'demo')})" for key, demos in usable.items()]
            self.notes.append(
                f"filter keys: {some_names(counts)}; all demos are read unless dataset.filter_key "
                "names one"
            )
        if failed:
            self.notes.append(
                f"{len(failed)} of {len(demos)} demos are marked success = False "
                f"({some_names(failed, _DEMOS_NAMED)}): they are read like the others; to leave "
                "them out, list the others as mask/<name> of the file and set dataset.filter_key"
            )
        if self.action_key and not action_key:
            self.notes.append(
                f"actions are those of '{actions}': there is no array '{_ACTIONS}'; training needs "
                f"dataset.action_key={actions}"
            )

    def _unless_broken(
        self,
        name: str,
        array: StoredArray,
        rows: Mapping[str, tuple[int, int]],
        broken: Mapping[str, str],
    ) -> StoredArray:
        """Return an array, unusable if it has not one row per step, or is another in some demos.

        Args:
            name: of the array in a demo.
            array: what it is in most.
            rows: demo -> its rows and its steps, where those are not as many.
            broken: demo -> what is wrong with it there.
        """
        source = f"{self.path}: {name}"
        if 2 * len(rows) > self._n_demos:  # which is its nature
            demo, (found, steps) = next(iter(rows.items()))
            reason = f"{source} has {found} rows, where {demo} has {steps} steps"
            return replace(array, is_camera=False, not_read=reason, unusable=True)
        if not broken:
            return array
        reason = broken_in_words(source, broken, self._n_demos)
        return replace(array, is_camera=False, not_read=reason, unusable=True, broken=True)

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

    def _where_broken(self, key: str) -> str:
        from lfm_policy.data.robomimic.broken import unreadable
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(self.path) as file:
            name, demos = file.observation(key), file.demos
            found = unreadable(file, name)
        return broken_in_words(f"{self.path}: {name}", found, len(demos)) if found else ""

    def read_values(self) -> ReplayBuffer:
        """Return action and observations; see :meth:`Contents.read_values`."""
        observed = {key: array for key, array in self.stored.items() if key != ACTION_KEY}
        if not all(array.unusable for array in observed.values()):
            return super().read_values()
        from lfm_policy.data.robomimic.file import RobomimicFile

        with RobomimicFile(self.path) as file:
            file.observation_keys(file.demos[0])  # says what to do with a raw recording
        reasons = "; ".join(array.not_read for array in observed.values())
        raise InputError(f"{self.path}: holds nothing that a policy could observe: {reasons}")
