"""Dataset format ``lerobot``: LeRobot datasets v2.0, v2.1 and v3.0, from a folder or the hub."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_policy.data.dataset_config import (
    ALL_TASKS,
    DatasetConfig,
    DatasetFacts,
    WriteOptions,
    check_depth,
    check_observed,
    depth_ranges,
)
from lfm_policy.data.lerobot.info import default_name
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.errors import InputError
from lfm_policy.options import option, options
from lfm_runtime.disk.files import is_file

if TYPE_CHECKING:
    from lfm_policy.data.images.cache import ImageCache
    from lfm_policy.data.images.video_writer import ImageLoss
    from lfm_policy.data.lerobot.info import DatasetInfo, Feature
    from lfm_policy.data.tools.contents import Contents


@options
class LeRobotConfig(DatasetConfig):
    """A LeRobot dataset: where it is, which features are observed and what they are called."""

    recognised_as = "a LeRobot dataset (a folder with meta/info.json)"
    needs_fps = True

    name: str = option("lerobot", "dataset format", choices=["lerobot"])
    path: str = option(
        "",
        "folder that holds meta/, data/ and videos/; or owner/name of a dataset that LeRobot "
        "recorded on this machine, or of one on the hub, which is downloaded",
        common=True,
    )
    revision: str | None = option(
        None, "branch, tag or commit on the hub, e.g. v3.0; its main one by default"
    )
    action_key: str = option(ACTION_KEY, "feature to imitate")
    obs_keys: list[str] = option(
        [],
        "features that the policy observes, such as observation.state; by default all that begin "
        "with observation. and can be observed; where none does, all but actions and counts",
        common=True,
    )
    rename: dict[str, str] = option(
        {},
        "what the policy calls a feature, such as {observation.images.top: image}; by default the "
        "end of its name, state for observation.state, top for observation.images.top",
    )
    fps: float | None = option(
        None, "steps per second that the dataset must have; any by default", gt=0
    )

    def __post_init__(self) -> None:
        if self.obs_keys:
            self._names(self.obs_keys)
        check_depth(self.depth, self.obs_keys)

    def load(
        self, image_cache: ImageCache | Path | None = None, *, quiet: bool = True
    ) -> ReplayBuffer:
        """Read action and observations; see :meth:`DatasetConfig.load`.

        Numeric features become arrays (T, *shape) of their dtype, cameras uint8 (T, height,
        width, channels).
        """
        # here and not above: a policy that only acts has no use for parquet and videos
        from lfm_policy.data.images.cache import open_images
        from lfm_policy.data.images.depth import depth_array
        from lfm_policy.data.lerobot.cameras import camera_images
        from lfm_policy.data.lerobot.choice import Choice, announced, check_stored
        from lfm_policy.data.lerobot.episodes import read_episodes
        from lfm_policy.data.lerobot.files import open_dataset
        from lfm_policy.data.lerobot.info import read_info
        from lfm_policy.data.lerobot.rows import read_rows
        from lfm_policy.data.tasks.lerobot import chosen

        if not self.path:
            raise InputError(
                "the dataset has no path: set dataset.path to the folder of a LeRobot dataset or "
                "to owner/name of one on the hub"
            )
        folder = open_dataset(self.path, self.revision)
        info = read_info(folder.root)
        self._check_fps(info)
        keys, action = self._keys(info), self._action(info)
        choice = Choice(str(folder.root), {*self.obs_keys, *self.rename, *self.depth})
        described = choice.passing(
            keys, lambda key: announced(info, key, is_depth=key in self.depth)
        )
        videos = [feature.key for feature in described.values() if feature.dtype == "video"]
        episodes = read_episodes(info, videos)
        choice_of_tasks = None
        if self.tasks:
            choice_of_tasks = chosen(self.tasks, folder, info, episodes).first(self.max_episodes)
            episodes = tuple(episodes[i] for i in choice_of_tasks.episodes)
        episodes = episodes[: self.max_episodes]
        files = dict.fromkeys(episode.data for episode in episodes)
        files |= dict.fromkeys(span.path for e in episodes for span in e.videos.values())
        folder.fetch(list(files))
        stored = choice.passing(described, lambda key: check_stored(described[key], episodes))
        observed = [described[key] for key in stored]
        choice.conclude(len(observed))
        names = self._names([feature.key for feature in observed])
        depth = depth_ranges(self.depth, names, self.path)

        numeric = [feature for feature in (action, *observed) if not feature.is_camera]
        rows = read_rows(info, episodes, numeric)
        arrays = {ACTION_KEY: rows.arrays[action.key]} | {
            names[feature.key]: rows.arrays[feature.key]
            for feature in observed
            if not feature.is_camera and not feature.is_depth
        }
        # Before the images: to decode them takes long, to find NaN does not.
        ReplayBuffer(arrays, rows.ends, source=self.path).validate()
        cameras = {
            name: camera_images(info, feature, episodes, rows.times, depth.get(name))
            for feature in observed
            if (name := names[feature.key]) and feature.is_camera
        }
        arrays |= {
            name: depth_array(f"{info.root}: {feature.key}", rows.arrays[feature.key], depth[name])
            for feature in observed
            if (name := names[feature.key]) in depth and not feature.is_camera
        }
        arrays |= open_images(cameras, image_cache, quiet=quiet)
        ordered = {name: arrays[name] for name in (ACTION_KEY, *names.values())}
        recorded = {name: camera.frame_shape for name, camera in cameras.items()}
        buffer = ReplayBuffer(ordered, rows.ends, source=self.path, recorded=recorded, depth=depth)
        buffer.validate()
        return buffer if choice_of_tasks is None else choice_of_tasks.told(buffer)

    @classmethod
    def detects(cls, path: Path) -> bool:
        """Whether a folder has the ``info.json`` of any version."""
        from lfm_policy.data.lerobot.files import INFO, V1_INFO

        return is_file(path / INFO) or is_file(path / V1_INFO)

    @classmethod
    def contents(cls, path: Path, action_key: str = "") -> Contents:
        """Return what is there, for ``inspect``; see :meth:`DatasetConfig.contents`."""
        from lfm_policy.data.lerobot.contents import LeRobotContents

        return LeRobotContents(path, cls, action_key)

    @classmethod
    def facts(cls, path: Path) -> DatasetFacts:
        """Return rate, robot and meanings; see :meth:`DatasetConfig.facts`."""
        from lfm_policy.data.lerobot.files import open_dataset
        from lfm_policy.data.lerobot.info import read_info

        info = read_info(open_dataset(str(path), None).root)
        return DatasetFacts(info.fps, robot_type=info.robot_type, meanings=info.meanings())

    def episode_tasks(self) -> list[str]:
        """Return what every episode shows; see the base class."""
        from lfm_policy.data.lerobot.episodes import read_episodes
        from lfm_policy.data.lerobot.files import open_dataset
        from lfm_policy.data.lerobot.info import read_info
        from lfm_policy.data.tasks.choice import NoTasksError
        from lfm_policy.data.tasks.lerobot import chosen

        folder = open_dataset(self.path, self.revision)
        info = read_info(folder.root)
        try:
            return chosen([ALL_TASKS], folder, info, read_episodes(info, [])).shown()
        except NoTasksError:
            return []

    @classmethod
    def write(cls, target: Path, buffer: ReplayBuffer, how: WriteOptions) -> dict[str, ImageLoss]:
        """Write a dataset v3.0; see :meth:`DatasetConfig.write`."""
        from lfm_policy.data.lerobot.writer import measure_video_loss, write_lerobot

        assert how.fps is not None
        write_lerobot(
            target,
            buffer,
            fps=how.fps,
            task=how.task,
            tasks=how.tasks,
            robot_type=how.robot_type,
            meanings=how.meanings,
            crf=how.crf,
            quiet=how.quiet,
        )
        return measure_video_loss(target, buffer)

    def _check_fps(self, info: DatasetInfo) -> None:
        if self.fps is not None and not math.isclose(self.fps, info.fps, rel_tol=1e-6):
            raise InputError(
                f"{info.path}: fps is {info.fps:g}, but dataset.fps is {self.fps:g}: a policy of "
                "one rate does not run at another; choose other data, or leave dataset.fps out"
            )

    def _keys(self, info: DatasetInfo) -> list[str]:
        """Return the features to be observed, in the order asked."""
        from lfm_policy.data.lerobot.choice import observation_keys

        keys = list(self.obs_keys) or observation_keys(info.features, self.action_key)
        if not keys:
            raise InputError(
                f"{info.path}: no feature is an observation, so the policy would see nothing: name "
                f"some in obs_keys (features: {', '.join(info.features)[:1000]})"
            )
        return keys

    def _action(self, info: DatasetInfo) -> Feature:
        """Return the feature to imitate."""
        from lfm_policy.data.lerobot.info import UnusableFeature

        try:
            action = info.feature(self.action_key)
        except UnusableFeature as error:
            raise InputError(
                f"{error.fact}, and it is the action: choose another action_key"
            ) from None
        if action.is_camera:
            raise InputError(
                f"{info.path}: feature '{action.key}' has dtype {action.dtype}; expected numbers, "
                "as it is the action: choose another action_key"
            )
        return action

    def _names(self, keys: Sequence[str]) -> dict[str, str]:
        """Return what the policy calls each of ``keys``, checked."""
        names = {key: default_name(key) for key in keys} | dict(self.rename)
        check_observed(keys, names, (self.action_key,))
        return names
