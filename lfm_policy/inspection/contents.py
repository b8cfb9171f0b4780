"""What a dataset of any format holds, before its values are read."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.data.detect import detect_format
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer, check_array_type
from lfm_policy.errors import InputError
from lfm_policy.files import temporary_folder
from lfm_policy.observations import is_image

LARGEST_READ_BYTES = 256_000_000
"""Low-dimensional arrays larger than this are described by their metadata and not read."""

LARGEST_CAMERA_BYTES = 4_000_000_000
"""As uint8. Of a camera with more than this, the first episodes are looked at."""

MOST_DIMENSIONS = 512
"""The same for arrays with more values than this per step: spectra, point clouds, depth images."""


@dataclass(frozen=True)
class StoredArray:
    """Metadata of one array.

    Attributes:
        shape: time first, (T, ...).
        dtype: as it is stored; ``"video"`` or ``"image"`` for compressed pictures.
        is_camera: whether its steps are images.
        not_read: why its values are not looked at; empty if they are.
        unusable: whether training cannot use it either, for that reason.
    """

    shape: tuple[int, ...]
    dtype: str
    is_camera: bool
    not_read: str = ""
    unusable: bool = False


class Contents(ABC):
    """An opened dataset of one format.

    Attributes:
        path: where it is.
        format: name of the format.
        prefix: what stands before a key in tables.
        fps: steps per second; None where the format does not say it.
        stored: every array by its key.
        remarks: what the reader of the format warned of, once the values are read.
    """

    format: str
    prefix: str = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps: float | None = None
        self.stored: dict[str, StoredArray] = {}
        self.remarks: list[str] = []

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the cameras."""
        return tuple(key for key, array in self.stored.items() if array.is_camera)

    @property
    def low_dimensional(self) -> tuple[str, ...]:
        """Keys of the arrays that `read_values` reads."""
        return tuple(
            key for key, array in self.stored.items() if not (array.is_camera or array.not_read)
        )

    @abstractmethod
    def read_values(self) -> ReplayBuffer:
        """Return the low-dimensional arrays of all episodes.

        Raises:
            InputError: one is damaged or not what it has to be.
        """

    @abstractmethod
    def open_camera(
        self, key: str, buffer: ReplayBuffer, n_episodes: int, cache: Path, *, quiet: bool
    ) -> np.ndarray:
        """Return images of the first episodes, (T', height, width, channels) uint8, mapped.

        Args:
            key: which camera.
            buffer: what `read_values` gave: it says where the episodes end.
            n_episodes: how many episodes.
            cache: folder for the decoded images.
            quiet: no progress bar.

        Raises:
            InputError: they are damaged or no images.
        """


class ZarrContents(Contents):
    """A zarr replay buffer: every array under ``data/``, whatever training would use of it."""

    format = "zarr"
    prefix = "data/"

    def __init__(self, path: Path) -> None:
        """Read the metadata of all arrays.

        Raises:
            InputError: not a zarr store, or one whose metadata do not parse.
        """
        from lfm_policy.data.zarr_store import inspect_zarr

        super().__init__(path)
        for key, info in inspect_zarr(path).items():
            self.stored[key] = describe(
                f"data/{key}", tuple(info.shape), np.dtype(info.dtype), source=str(path)
            )

    def read_values(self) -> ReplayBuffer:
        """Return the low-dimensional arrays; see :meth:`Contents.read_values`."""
        from lfm_policy.data.zarr_store import load_zarr

        return load_zarr(self.path, self.low_dimensional)

    def open_camera(
        self, key: str, buffer: ReplayBuffer, n_episodes: int, cache: Path, *, quiet: bool
    ) -> np.ndarray:
        """Return images of the first episodes; see :meth:`Contents.open_camera`."""
        from lfm_policy.data.zarr_store import zarr_images

        n_frames = int(buffer.episode_ends[n_episodes - 1])
        return zarr_images(self.path, key, n_frames).open(cache, quiet=quiet)


class ConfiguredContents(Contents):
    """A format that is read through its configuration: robomimic and LeRobot."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._config = DATASET_FORMATS.get(self.format)

    def read_values(self) -> ReplayBuffer:
        """Return action and observations; see :meth:`Contents.read_values`."""
        keys = [key for key in self.low_dimensional if key != ACTION_KEY]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            buffer = self._load(keys) if keys else self._without_images()
        self.remarks = [str(warning.message) for warning in caught]
        return buffer

    def open_camera(
        self, key: str, buffer: ReplayBuffer, n_episodes: int, cache: Path, *, quiet: bool
    ) -> np.ndarray:
        """Return images of the first episodes; see :meth:`Contents.open_camera`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `read_values` has said it all
            loaded = self._load([key], max_episodes=n_episodes, cache=cache, quiet=quiet)
        return loaded.arrays[key]

    def _without_images(self) -> ReplayBuffer:
        """Return the actions of a dataset without low-dimensional observations."""
        if not self.cameras:
            raise InputError(f"{self.path}: holds nothing that a policy could observe")
        # No format loads actions alone, so the images of one camera come with them.
        camera = min(self.cameras, key=lambda key: math.prod(self.stored[key].shape))
        if math.prod(self.stored[camera].shape) > LARGEST_CAMERA_BYTES:
            raise InputError(
                f"{self.path}: holds no low-dimensional observations, and its images "
                f"{camera} {self.stored[camera].shape} are too large to be looked at"
            )
        with temporary_folder() as folder:
            buffer = self._load([camera], cache=folder)
            return replace(buffer, arrays={ACTION_KEY: buffer.arrays[ACTION_KEY]})

    def _load(
        self,
        keys: list[str],
        cache: Path | None = None,
        *,
        max_episodes: int | None = None,
        quiet: bool = True,
    ) -> ReplayBuffer:
        # Every format calls observations what the file calls them, so that users find them there.
        options: dict[str, Any] = {
            "path": str(self.path),
            "obs_keys": keys,
            "rename": {key: key for key in keys},
        }
        config = self._config(max_episodes=max_episodes, **options)
        return config.load(cache, quiet=quiet)


class RobomimicContents(ConfiguredContents):
    """A robomimic HDF5 file: the actions and what is under ``obs``."""

    format = "robomimic"

    def __init__(self, path: Path) -> None:
        """Read the metadata of the first demo.

        Raises:
            InputError: not a robomimic file, or one whose metadata do not parse.
        """
        from lfm_policy.data.robomimic_file import inspect_robomimic

        super().__init__(path)
        summary = inspect_robomimic(path)
        n_steps = sum(summary.demos.values())
        rate = (summary.env_args or {}).get("env_kwargs", {}).get("control_freq")
        self.fps = float(rate) if isinstance(rate, int | float) and rate > 0 else None
        for name, info in summary.keys.items():
            key = ACTION_KEY if name == "actions" else name.removeprefix("obs/")
            if key != name:
                shape = (n_steps, *info.shape)
                self.stored[key] = describe(
                    name, shape, info.dtype, source=str(path), ranks=(1, 2, 3)
                )


class LeRobotContents(ConfiguredContents):
    """A LeRobot dataset: the action and every ``observation`` feature."""

    format = "lerobot"

    def __init__(self, path: Path) -> None:
        """Read ``meta/info.json``.

        Raises:
            InputError: it is damaged or of an unknown version.
        """
        from lfm_policy.data.lerobot_info import read_info

        super().__init__(path)
        info = read_info(path)
        self.fps = info.fps
        for key in info.features:
            if key != ACTION_KEY and not key.startswith("observation."):
                continue
            try:
                feature = info.feature(key)
            except InputError as error:
                self.stored[key] = StoredArray((info.total_frames,), "", False, str(error), True)
                continue
            shape = (info.total_frames, *feature.shape)
            self.stored[key] = (
                StoredArray(shape, feature.dtype, True)
                if feature.is_camera
                else describe(key, shape, np.dtype(feature.dtype), source=str(path))
            )


_CONTENTS: dict[str, type[Contents]] = {
    kind.format: kind for kind in (ZarrContents, RobomimicContents, LeRobotContents)
}


def open_dataset(path: Path) -> Contents:
    """Return what a dataset holds, whatever its format.

    Raises:
        InputError: no dataset of a known format, or its metadata are damaged.
    """
    return _CONTENTS[detect_format(path)](path)


def describe(
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    source: str,
    ranks: tuple[int, ...] = (),
) -> StoredArray:
    """Return what is done with an array of this shape and dtype.

    Args:
        name: of the array, for messages.
        shape: time first, (T, ...).
        dtype: as it is stored.
        source: the dataset, for messages.
        ranks: ranks that the format takes for other arrays than images; by default any from 2 on.
    """
    is_camera = is_image(shape[1:])
    try:
        check_array_type(name, shape, dtype, source=source, ranks=() if is_camera else ranks)
    except InputError as error:
        return StoredArray(shape, str(dtype), False, str(error), unusable=True)
    reason = ""
    if not is_camera:
        if math.prod(shape[1:]) > MOST_DIMENSIONS:
            reason = f"more than {MOST_DIMENSIONS} values per step: not read"
        elif math.prod(shape) * dtype.itemsize > LARGEST_READ_BYTES:
            reason = "large: not read"
    return StoredArray(shape, str(dtype), is_camera, reason)
