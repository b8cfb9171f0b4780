"""Dataset format ``several``: datasets of one or more tasks each, learned together."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lfm_policy.data.dataset_config import ALL_TASKS, DatasetConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.tasks.choice import shown_tasks, untold
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import checked, option, options

if TYPE_CHECKING:
    from lfm_policy.data.images.cache import CachedImages, ImageCache

_MAXIMUM_FILES = 10_000
_FRAMES_AT_ONCE = 1024


@options
class SeveralConfig(DatasetConfig):
    """Several datasets with the same observations and actions, as one.

    A dataset that does not say which tasks its episodes show is a task of its own, which is called
    as its file is. The frames of all of them are kept once more, one after the other, in the folder
    of decoded images.
    """

    name: str = option("several", "dataset format", choices=["several"])
    path: str = option(
        "",
        "folder of the datasets, or a pattern such as demos/*.hdf5; they are read by name",
        common=True,
    )
    each: dict[str, Any] = option(
        {},
        "options of every one of them, such as {obs_keys: [hand, goal], max_episodes: 20}; the "
        "format is recognised",
        common=True,
    )

    def __post_init__(self) -> None:
        for key in ("path", "tasks"):
            if key in self.each:
                raise OptionError("each", f"names {key}, which is dataset.{key}")

    def load(
        self, image_cache: ImageCache | Path | None = None, *, quiet: bool = True
    ) -> ReplayBuffer:
        """Read all datasets, one after the other; see :meth:`DatasetConfig.load`.

        The first ``max_episodes`` are those of all datasets together, in their order.
        """
        # here and not above: a policy that only acts has no use for it
        from lfm_policy.data.images.cache import open_images
        from lfm_policy.data.tasks.choice import choose_tasks

        loaded = [self._load(path, image_cache, quiet=quiet) for path in self.paths()]
        tasks = [task for part in loaded for task in _tasks_of(part)]
        parts = [untold(part) for part in loaded]
        first = parts[0]
        expected = {key: first.step_shape(key) for key in first.arrays}
        for part in parts[1:]:
            found = {key: part.step_shape(key) for key in part.arrays}
            if found != expected:
                raise InputError(
                    f"{part.source}: has {found}, expected {expected} as {first.source} has it"
                )
            if (part.depth, part.unscaled) != (first.depth, first.unscaled):
                raise InputError(
                    f"{part.source}: differs from {first.source} in depth or rotations"
                )
        lengths = np.concatenate([part.episode_lengths for part in parts])
        together = replace(first, arrays={}, episode_ends=np.cumsum(lengths, dtype=np.int64))
        choice, episodes = None, np.arange(len(lengths))[: self.max_episodes]
        if self.tasks:
            choice = choose_tasks(self.tasks, tasks, self.path).first(self.max_episodes)
            episodes = np.array(choice.episodes, dtype=np.int64)
        steps = together.steps_of(episodes)
        arrays = {key: [part.arrays[key] for part in parts] for key in first.arrays}
        mapped = {
            key: _mapped(f"{self.path}: {key}", each, steps)
            for key, each in arrays.items()
            if all(isinstance(array, np.memmap) for array in each)
        }
        frames = open_images(mapped, image_cache, quiet=quiet)
        chosen = {
            key: frames[key] if key in frames else np.concatenate(each)[steps]
            for key, each in arrays.items()
        }
        ends = np.cumsum(lengths[episodes], dtype=np.int64)
        buffer = replace(first, arrays=chosen, episode_ends=ends, source=self.path)
        buffer.validate()
        return buffer if choice is None else choice.told(buffer)

    def paths(self) -> list[Path]:
        """Return the datasets, by name.

        Raises:
            InputError: there are none, or far too many.
        """
        from lfm_policy.data.tools.detect import detect_format

        if not self.path:
            raise InputError("the dataset has no path: set dataset.path to a folder or a pattern")
        where = Path(self.path).expanduser()
        pattern = str(where / "*") if where.is_dir() else str(where)
        found = sorted(path for path in map(Path, glob.glob(pattern)) if path.suffix != ".parts")
        if where.is_dir():  # what else lies in a folder is no mistake

            def is_dataset(path: Path) -> bool:
                try:
                    return bool(detect_format(path))
                except InputError:
                    return False

            found = [path for path in found if is_dataset(path)]
        if not 1 <= len(found) <= _MAXIMUM_FILES:
            raise InputError(
                f"{self.path}: found {len(found)} datasets, expected 1 to {_MAXIMUM_FILES}"
            )
        return found

    def _load(
        self, path: Path, image_cache: ImageCache | Path | None, *, quiet: bool
    ) -> ReplayBuffer:
        from lfm_policy.data.tasks.choice import NoTasksError

        config = self._config(path, [ALL_TASKS])
        try:
            return config.load(image_cache, quiet=quiet)
        except NoTasksError:
            return replace(config, tasks=[]).load(image_cache, quiet=quiet)

    def _config(self, path: Path, tasks: list[str]) -> DatasetConfig:
        from lfm_policy.data.formats import DATASET_FORMATS
        from lfm_policy.data.tools.detect import detect_format

        form = DATASET_FORMATS.get(str(self.each.get("name") or detect_format(path)))
        values: Mapping[str, Any] = {**self.each, "path": str(path), "tasks": tasks}
        try:
            config: DatasetConfig = checked(form, values)
        except OptionError as error:
            raise error.under("each") from None
        return config


def _mapped(source: str, arrays: list[np.ndarray], steps: np.ndarray) -> CachedImages:
    """Return some frames of mapped arrays that follow one another, to be written down as one."""
    from lfm_policy.data.images.cache import (
        CachedImages,
        cached_digest,
        chosen_frames,
        release,
        steps_digest,
    )

    def parts_of_all() -> Iterator[np.ndarray]:
        for array in arrays:
            for begin in range(0, len(array), _FRAMES_AT_ONCE):
                yield array[begin : begin + _FRAMES_AT_ONCE]
                release(array)

    # Of a part of the frames of a file, which one it is.
    parts = [
        cached_digest(array) or [str(getattr(array, "filename", "")), len(array)]
        for array in arrays
    ]
    facts = {"format": "several", "parts": parts, "steps": steps_digest(steps)}
    height, width, channels = arrays[0].shape[1:]
    read = chosen_frames(parts_of_all(), steps)
    return CachedImages(source, facts, len(steps), (height, width, channels), read)


def _tasks_of(buffer: ReplayBuffer) -> list[str]:
    """Return the task of every episode; the name of the file where nothing says it."""
    if not buffer.tasks:
        return [Path(buffer.source).stem] * buffer.n_episodes
    return shown_tasks(buffer)
