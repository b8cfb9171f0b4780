"""What a LeRobot dataset holds."""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lfm_policy.data.lerobot.info import default_name
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.tools.broken import broken_in_words, not_finite_episodes
from lfm_policy.data.tools.contents import (
    ConfiguredContents,
    StoredArray,
    action_alone,
    describe,
)
from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from lfm_policy.data.dataset_config import DatasetConfig
    from lfm_policy.data.lerobot.info import Feature


class LeRobotContents(ConfiguredContents):
    """A LeRobot dataset: the action and every feature that may be observed.

    The action is the one that is asked for, else ``action``, else the only one that is called so.
    """

    format = "lerobot"
    reads_actions_alone = True

    def __init__(self, path: Path, config_class: type[DatasetConfig], action_key: str = "") -> None:
        """Read what is under ``meta/``, and of each feature of what kind its first file is.

        Raises:
            InputError: it is damaged or of an unknown version.
        """
        from lfm_policy.data.lerobot.choice import Choice, announced, check_stored, observation_keys
        from lfm_policy.data.lerobot.episodes import read_episodes
        from lfm_policy.data.lerobot.info import UnusableFeature, read_info

        super().__init__(path, config_class)
        self._info = read_info(path)
        self.fps = self._info.fps
        features = self._info.features
        if action_key or ACTION_KEY not in features:
            self.action_key = action_key or action_alone(
                key for key in features if not key.startswith(("observation.", "next."))
            )
        action = self.action_key or ACTION_KEY
        seen = set(observation_keys(features, action))
        keys = [key for key in features if key == action or key in seen]
        if self.action_key and not action_key:
            self.notes.append(
                f"actions are those of '{action}': there is no feature '{ACTION_KEY}'; training "
                f"needs dataset.action_key={action}"
            )
        choice = Choice(str(path), asked=set())
        described = choice.passing(keys, lambda key: announced(self._info, key))
        videos = [feature.key for feature in described.values() if feature.dtype == "video"]
        self._episodes = read_episodes(self._info, videos)

        def check(key: str) -> None:
            try:
                check_stored(described[key], self._episodes)
            except InputError as error:
                # The images of a camera are looked at one by one.
                if isinstance(error, UnusableFeature) or not described[key].is_camera:
                    raise

        choice.passing(described, check)
        n_steps = sum(episode.length for episode in self._episodes)
        lacking = {key: self._lacking(described[key]) for key in choice.left_out & described.keys()}
        for key in keys:
            stored = ACTION_KEY if key == action else key
            if key in choice.left_out:
                entry, reason = features[key], choice.left_out[key]
                dtype = str(entry.get("dtype"))[:20] if isinstance(entry, dict) else ""
                broken = lacking.get(key, "")
                self.stored[stored] = StoredArray(
                    (n_steps,), dtype, False, broken or reason, unusable=True, broken=bool(broken)
                )
                continue
            feature = described[key]
            shape = (n_steps, *feature.shape)
            self.stored[stored] = (
                StoredArray(shape, feature.dtype, True)
                if feature.is_camera
                else describe(key, shape, np.dtype(feature.dtype), source=str(path))
            )

    def _lacking(self, feature: Feature) -> str:
        """Say in which episodes a feature of numbers is not stored that others have; else ""."""
        from lfm_policy.data.lerobot.choice import check_stored

        if feature.is_camera:
            return ""
        sound = {}
        for episode in self._episodes:
            if episode.data not in sound:
                try:
                    check_stored(feature, [episode])
                except InputError:
                    sound[episode.data] = False
                else:
                    sound[episode.data] = True
        if not any(sound.values()):
            return ""
        found = {
            f"episode {episode.index}": "lacks it, or has it in another form"
            for episode in self._episodes
            if not sound[episode.data]
        }
        return broken_in_words(f"{self.path}: {feature.key}", found, len(self._episodes))

    def _where_broken(self, key: str) -> str:
        from lfm_policy.data.lerobot.rows import read_rows

        feature, found = self._info.feature(key), dict[str, str]()
        by_file = defaultdict(list)
        for episode in self._episodes:
            by_file[episode.data].append(episode)
        for members in by_file.values():
            names = [f"episode {episode.index}" for episode in members]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    rows = read_rows(self._info, members, [feature])
                found |= not_finite_episodes(rows.arrays[key], rows.ends, names)
            except InputError as error:
                found |= dict.fromkeys(names, "cannot be read") | {
                    names[0]: f"cannot be read ({error})"
                }
        n_episodes = len(self._episodes)
        return broken_in_words(f"{self.path}: {key}", found, n_episodes) if found else ""

    def policy_name(self, key: str) -> str:
        """Return what a policy calls a feature; see :meth:`Contents.policy_name`."""
        return default_name(key)

    def _without_images(self) -> ReplayBuffer:
        from lfm_policy.data.lerobot.rows import read_rows

        action = self._info.feature(self.action_key or ACTION_KEY)
        rows = read_rows(self._info, self._episodes, [action])
        buffer = ReplayBuffer(
            {ACTION_KEY: rows.arrays[action.key]}, rows.ends, source=str(self.path)
        )
        buffer.validate()
        return buffer
