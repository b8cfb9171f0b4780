"""Demonstrations as an object: from arrays in memory or a file of any format, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lfm_policy.api.episodes import Episode, buffer_of_episodes, episodes_of_buffer
from lfm_policy.data.dataset_config import DatasetConfig, WriteOptions
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.tools.convert import (
    ConvertOptions,
    dataset_config,
    load_usable_images,
    target_format,
    told_besides,
)
from lfm_policy.data.tools.detect import detect_format
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import require_absent
from lfm_runtime.policy.spec import is_image

__all__ = ["Dataset", "write_zarr"]


class Dataset:
    """Demonstrations, made by `from_episodes` or `open`::

        >>> import numpy as np
        >>> from lfm_policy import Dataset
        >>> episode = {"obs": {"joints": np.zeros((50, 7))}, "action": np.ones((50, 7))}
        >>> dataset = Dataset.from_episodes([episode, episode], fps=10)
        >>> dataset
        Dataset(2 episodes, 100 steps at 10 Hz: joints (7,) -> action (7,))
        >>> dataset.episodes[1]["obs"]["joints"].shape
        (50, 7)

    Attributes:
        path: of the file or folder; None for one that is in memory only.
        format: name of its format; empty in memory.
        fps: steps per second; None where nobody said.
    """

    def __init__(
        self,
        *,
        buffer: ReplayBuffer | None = None,
        config: DatasetConfig | None = None,
        options: ConvertOptions | None = None,
        image_cache: Path | None = None,
        fps: float | None = None,
    ) -> None:
        """Use `from_episodes` or `open`."""
        self._config = config
        self._options = options or ConvertOptions()
        self._image_cache = image_cache
        self.path = None if config is None else Path(getattr(config, "path", ""))
        self.format = "" if config is None else config.name
        self.fps = fps
        if buffer is not None:
            self.__dict__["buffer"] = buffer

    @classmethod
    def from_episodes(
        cls, episodes: Iterable[Episode], *, fps: float | None = None, name: str = "episodes"
    ) -> Dataset:
        """Take episodes from memory; they are checked and copied.

        Args:
            episodes: each ``{"obs": {name: array}, "action": array}`` with time first: the action
                (T, action_dim), numbers (T, dim), camera images (T, height, width, 1, 3 or 4)
                uint8, also channels first or grey (T, height, width), depth (T, height, width)
                uint16 (see the option ``dataset.depth``); or a list of such dictionaries, one per
                step, without the axis of time. numpy, lists, or torch.
            fps: steps per second.
            name: what messages call them, and files that are made of them.

        Raises:
            InputError: no episode, an empty one, lengths, shapes, names or dtypes that do not fit
                one another, NaN or infinity; the message names the episode and the key.
        """
        ConvertOptions(fps=fps)  # checks the rate
        return cls(buffer=buffer_of_episodes(episodes, name), fps=fps)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        obs_keys: Sequence[str] = (),
        format: str | None = None,
        image_cache: str | Path | None = None,
    ) -> Dataset:
        """Open a dataset of any format: zarr, robomimic's HDF5, LeRobot, or one of a plugin.

        Values are read when they are asked for.

        Args:
            path: file or folder.
            obs_keys: observations, as the file calls them; by default all that can be one.
            format: its name, where it is not to be recognised.
            image_cache: folder for decoded images; by default ``runs/image-cache``.

        Raises:
            InputError: nothing is there, or nothing that is recognised.
        """
        source = Path(path).expanduser()
        name = format or detect_format(source)
        options = ConvertOptions(obs_keys=tuple(obs_keys))
        return cls(
            config=dataset_config(source, name, options),
            options=options,
            image_cache=None if image_cache is None else Path(image_cache),
            fps=DATASET_FORMATS.get(name).facts(source).fps,
        )

    @cached_property
    def buffer(self) -> ReplayBuffer:
        """All episodes end to end, as training reads them; images are memory-mapped.

        Raises:
            InputError: the file is damaged or not what it has to be.
        """
        assert self._config is not None
        return load_usable_images(self._config, self._options, self._image_cache, quiet=False)

    @property
    def episodes(self) -> list[dict[str, Any]]:
        """The episodes, as `from_episodes` takes them: views of the arrays."""
        return episodes_of_buffer(self.buffer)

    @property
    def asked_keys(self) -> tuple[str, ...]:
        """Observations that `open` was asked for, as the file calls them; none: all."""
        return tuple(self._options.obs_keys)

    @property
    def obs_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one step of every observation."""
        return {k: a.shape[1:] for k, a in self.buffer.arrays.items() if k != ACTION_KEY}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the observations that are camera images."""
        return tuple(key for key, shape in self.obs_shapes.items() if is_image(shape))

    @property
    def action_dim(self) -> int:
        """Numbers in one action."""
        return int(self.buffer.arrays[ACTION_KEY].shape[1])

    def __len__(self) -> int:
        """Return the number of episodes."""
        return self.buffer.n_episodes

    def __repr__(self) -> str:
        """Return what is in it."""
        shapes = ", ".join(f"{key} {shape}" for key, shape in self.obs_shapes.items())
        rate = "" if self.fps is None else f" at {self.fps:g} Hz"
        return (
            f"Dataset({len(self)} episodes, {self.buffer.n_steps} steps{rate}: {shapes} -> "
            f"{ACTION_KEY} ({self.action_dim},))"
        )

    def save(self, path: str | Path) -> Dataset:
        """Write it in the format that the name stands for, and return the dataset there.

        Args:
            path: ``.zarr`` or ``.zarr.zip`` for Diffusion Policy's layout, ``.hdf5`` for
                robomimic's, a folder for LeRobot's (which needs `fps` and compresses images). It
                must not exist, and appears under its name only when it is complete.

        Raises:
            InputError: it exists, or the format cannot hold the data.
        """
        target = Path(path)
        require_absent(target)
        name = target_format(target)
        writer = DATASET_FORMATS.get(name)
        if writer.needs_fps and self.fps is None:
            raise InputError(
                f"{target}: the format {name} needs the steps per second: say it where the dataset "
                "is made, Dataset.from_episodes(episodes, fps=10)"
            )
        how = WriteOptions(fps=self.fps, quiet=False)
        if self._config is not None:
            said = replace(self._options, fps=self.fps)
            how = told_besides(self._config, said, quiet=False)
        writer.write(target, self.buffer, how)
        return Dataset.open(target)


def write_zarr(
    episodes: Dataset | Iterable[Episode], path: str | Path, *, fps: float | None = None
) -> Path:
    """Write episodes as a zarr replay buffer in Diffusion Policy's layout, which commands read.

    That is ``data/<name>`` with time first and ``meta/episode_ends``::

        >>> import numpy as np
        >>> from lfm_policy import Dataset, write_zarr
        >>> steps = [{"obs": {"joints": [0.1 * t, 0.2]}, "action": [0.3, t]} for t in range(20)]
        >>> path = write_zarr([steps], "reach.zarr", fps=10)
        >>> Dataset.open(path).episodes[0]["action"][3]
        array([0.3, 3. ])

    Args:
        episodes: see `Dataset.from_episodes`.
        path: folder, or a name that ends in ``.zip``; must not exist. It appears under its name
            only when it is complete.
        fps: steps per second, which is kept with them.

    Returns:
        The path.

    Raises:
        InputError: as `Dataset.from_episodes`, or ``path`` exists.
    """
    from lfm_policy.data.zarr.store import write_zarr as write

    path = Path(path)
    require_absent(path)
    if not isinstance(episodes, Dataset):
        episodes = Dataset.from_episodes(episodes, fps=fps, name=path.name)
    write(path, episodes.buffer, fps=episodes.fps if fps is None else fps)
    return path
