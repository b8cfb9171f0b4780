"""Dataset format ``zarr``: Diffusion Policy's replay buffer and users' own data like it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.dataset_config import (
    ALL_TASKS,
    DatasetConfig,
    DatasetFacts,
    WriteOptions,
    check_depth,
    check_observed,
    depth_ranges,
)
from lfm_policy.data.derived import DERIVATIONS
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer, check_lengths
from lfm_policy.errors import InputError
from lfm_policy.options import option, options
from lfm_runtime.disk.files import starts_with
from lfm_runtime.registry import nearest_names

if TYPE_CHECKING:
    from lfm_policy.data.images.cache import ImageCache
    from lfm_policy.data.images.video_writer import ImageLoss
    from lfm_policy.data.tools.contents import Contents


@options
class ZarrConfig(DatasetConfig):
    """A zarr replay buffer: which arrays are read and what becomes of them."""

    recognised_as = "a zarr replay buffer (a folder, or a file that ends in .zip)"
    suffixes = (".zarr", ".zip")

    name: str = option(
        "zarr",
        "dataset format; where nothing says it, it is recognised by what is at `path`",
        choices=["zarr"],
    )
    path: str = option(
        "",
        "the demonstrations: a replay buffer, folder or .zarr.zip, with data/<key> and meta/",
        common=True,
    )
    action_key: str = option(ACTION_KEY, "array under data/ to imitate")
    obs_keys: list[str] = option(
        [],
        "arrays under data/ (or outputs of `derive`) that the policy observes; with `derive`, none "
        "means all its outputs",
        common=True,
    )
    rename: dict[str, str] = option(
        {},
        "what the policy calls an array, such as {img: image}; by default what the store calls it",
    )
    derive: str | None = option(
        None, "derivation that computes observations from stored arrays", choices=DERIVATIONS
    )

    def __post_init__(self) -> None:
        check_observed(self.obs_keys, self.rename, (ACTION_KEY, self.action_key))
        check_depth(self.depth, self.obs_keys)

    def load(
        self, image_cache: ImageCache | Path | None = None, *, quiet: bool = True
    ) -> ReplayBuffer:
        """Read action and observations; see :meth:`DatasetConfig.load`.

        Arrays that nobody asked for are not touched, whatever they hold.

        Warns:
            UserWarning: chunks are absent and were read as the fill value, or images are stored
                with channels first, without channels or with alpha.
        """
        # here and not above: a policy that only acts has no use for zarr
        from lfm_policy.data.images.cache import open_images
        from lfm_policy.data.zarr.store import check_observation, list_zarr, load_zarr, zarr_images

        if not self.path:
            raise InputError(
                "the dataset has no path: set dataset.path to a zarr replay buffer; where the "
                "configuration has no dataset.name, as own/state and own/cameras, also to "
                "robomimic's HDF5 or the folder of a LeRobot dataset"
            )
        derivation = DERIVATIONS.get(self.derive) if self.derive else None
        derivable = derivation.outputs if derivation else ()
        obs_keys = list(self.obs_keys) or list(derivable)

        listing = list_zarr(self.path)
        stored = listing.readable
        if not obs_keys:
            numbers = [
                key
                for key, info in stored.items()
                if key != self.action_key and info.layout is None and len(info.shape) <= 2
            ]
            raise InputError(
                f"{self.path}: obs_keys is empty, so the policy would see nothing; the store "
                f"holds: {', '.join(stored)}; name what the robot can observe at work, such as "
                f"dataset.obs_keys=[{(numbers or ['joints'])[0]}]"
            )
        raw_obs = [key for key in obs_keys if key not in derivable]
        for key in (self.action_key, *raw_obs):
            if key in listing.unreadable:
                raise InputError(listing.unreadable[key].not_read)
            if key not in stored:
                derived = f"; derived: {', '.join(derivable)}" if derivable else ""
                is_action = key == self.action_key
                raise InputError(
                    f"{self.path}: there is no array data/{key}: "
                    f"{nearest_names(key, (*stored, *derivable))} (stored: {', '.join(stored)}"
                    f"{derived})"
                    + ("; dataset.action_key says which array is imitated" if is_action else "")
                )
        depth = depth_ranges(self.depth, {key: key for key in raw_obs}, self.path)
        levels = {key: ends for key, ends in listing.depth.items() if key in raw_obs}
        for key, (near, far) in levels.items():
            if key in depth and depth.pop(key) != (near, far):
                raise InputError(
                    f"{self.path}: data/{key} holds levels of depth from {near:g} to {far:g}, and "
                    f"dataset.depth says {self.depth[key][0]:g} to {self.depth[key][1]:g}; "
                    "expected the same range: leave it out of dataset.depth to read it as it is"
                )
        images = [key for key in raw_obs if key in depth or stored[key].layout is not None]
        small = [key for key in raw_obs if key not in images]
        for key in raw_obs:
            if key not in depth:
                check_observation(key, stored[key], self.path)
        inputs = derivation.inputs if derivation and set(obs_keys) & set(derivable) else ()
        raw = load_zarr(self.path, tuple(dict.fromkeys((self.action_key, *small, *inputs))))
        check_lengths(
            {f"data/{key}": stored[key].shape[0] for key in images},
            n_steps=raw.n_steps,
            source=self.path,
        )
        choice, steps = None, None
        if self.tasks:
            from lfm_policy.data.tasks.zarr import chosen

            choice = chosen(self.tasks, self.path, raw.episode_starts).first(self.max_episodes)
            steps = raw.steps_of(np.array(choice.episodes, dtype=np.int64))
            raw = raw.select_episodes(choice.episodes)
        elif self.max_episodes is not None and self.max_episodes < raw.n_episodes:
            raw = raw.select_episodes(range(self.max_episodes))

        available = raw.arrays | (derivation(raw.arrays) if derivation and inputs else {})
        names = {key: self.rename.get(key, key) for key in obs_keys}
        cameras = {
            names[key]: zarr_images(self.path, key, raw.n_steps, depth.get(key), steps=steps)
            for key in images
        }
        for camera in cameras.values():
            if camera.remark:
                warnings.warn(f"{self.path}: {camera.remark}", AssumptionWarning, stacklevel=2)
        frames = open_images(cameras, image_cache, quiet=quiet)
        observed = {
            name: frames[name] if name in frames else available[key] for key, name in names.items()
        }
        buffer = ReplayBuffer(
            arrays={ACTION_KEY: raw.arrays[self.action_key], **observed},
            episode_ends=raw.episode_ends,
            source=self.path,
            recorded={name: camera.frame_shape for name, camera in cameras.items()},
            depth={names[key]: ends for key, ends in (depth | levels).items()},
        )
        buffer.validate()
        return buffer if choice is None else choice.told(buffer)

    def episode_tasks(self) -> list[str]:
        """Return what every episode shows, where tasks have names; see the base class."""
        from lfm_policy.data.tasks.zarr import chosen, named_by
        from lfm_policy.data.zarr.store import stored_ends

        if not named_by(self.path):
            return []
        starts = ReplayBuffer({}, stored_ends(self.path)).episode_starts
        return chosen([ALL_TASKS], self.path, starts).shown()

    @classmethod
    def detects(cls, path: Path) -> bool:
        """Whether a folder is called .zarr or holds arrays, or a file is a ZIP archive.

        A folder of stores is none.
        """
        if not path.is_dir():
            return path.suffix.lower() == ".zip" or starts_with(path, b"PK")
        if path.suffix == ".zarr":
            return True
        from lfm_policy.data.zarr.files import open_zarr_files

        names = open_zarr_files(path).array_names()
        return any(not name.partition("/")[0].endswith(".zarr") for name in names)

    @classmethod
    def contents(cls, path: Path, action_key: str = "") -> Contents:
        """Return what is there, for ``inspect``; see :meth:`DatasetConfig.contents`.

        Every array keeps its name, that of the action too.
        """
        from lfm_policy.data.zarr.contents import ZarrContents

        return ZarrContents(path)

    @classmethod
    def facts(cls, path: Path) -> DatasetFacts:
        """Return what a store says besides its arrays; see :meth:`DatasetConfig.facts`."""
        from lfm_policy.data.zarr.store import stored_rate

        return DatasetFacts(fps=stored_rate(path))

    @classmethod
    def write(cls, target: Path, buffer: ReplayBuffer, how: WriteOptions) -> dict[str, ImageLoss]:
        """Write a replay buffer; see :meth:`DatasetConfig.write`."""
        from lfm_policy.data.zarr.store import write_zarr

        write_zarr(target, buffer, fps=how.fps, tasks=how.tasks)
        return {}
