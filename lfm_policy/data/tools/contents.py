"""What a dataset of any format holds, before its values are read."""

from __future__ import annotations

import math
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.images.depth import as_depth_advice, looks_like_depth
from lfm_policy.data.replay_buffer import (
    ACTION_KEY,
    ReplayBuffer,
    check_array_type,
)
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import temporary_folder
from lfm_runtime.policy.spec import is_image

if TYPE_CHECKING:
    from lfm_policy.data.dataset_config import DatasetConfig

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
        broken: whether that is no matter of its kind: it is damaged, or not the same in all
            episodes.
    """

    shape: tuple[int, ...]
    dtype: str
    is_camera: bool
    not_read: str = ""
    unusable: bool = False
    broken: bool = False


class Contents(ABC):
    """An opened dataset of one format.

    Attributes:
        path: where it is.
        format: name of the format.
        prefix: what stands before a key in tables.
        fps: steps per second; None where the format does not say it.
        stored: every array by its key.
        action_key: the option ``dataset.action_key`` that reads what stands here as ``action``;
            empty where no option is needed, and where arrays keep their names.
        depth: arrays that hold levels of depth already, and the range that is noted of them.
        remarks: what the reader of the format warned of, once the values are read.
        notes: what else is worth knowing: what it says of itself, and what its reader took for
            granted, once values and images are read.
    """

    format: str
    prefix: str = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps: float | None = None
        self.stored: dict[str, StoredArray] = {}
        self.action_key = ""
        self.depth: dict[str, tuple[float, float]] = {}
        self.remarks: list[str] = []
        self.notes: list[str] = []

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

    def policy_name(self, key: str) -> str:
        """Return what a policy calls an array when nobody renames it."""
        return key

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


class ConfiguredContents(Contents):
    """A format that is read through its configuration: robomimic and LeRobot."""

    reads_actions_alone: ClassVar[bool] = False
    """Whether actions are read where there is nothing to observe."""

    def __init__(self, path: Path, config_class: type[DatasetConfig]) -> None:
        super().__init__(path)
        self._config = config_class

    def read_values(self) -> ReplayBuffer:
        """Return action and observations; see :meth:`Contents.read_values`.

        Observations that cannot be read are called broken, and the others are read: what is of
        another kind is not among them.
        """
        try:
            return self._read()
        except InputError:
            keys = [key for key in self.low_dimensional if key != ACTION_KEY]
            broken = {key: reason for key in keys if (reason := self._why_unreadable(key))}
            if not broken:
                raise
            broken = {key: self._where_broken(key) or reason for key, reason in broken.items()}
            if not (self.cameras or len(broken) < len(keys) or self.reads_actions_alone):
                before = [array.not_read for array in self.stored.values() if array.broken]
                raise InputError("; ".join(dict.fromkeys([*before, *broken.values()]))) from None
        for key, reason in broken.items():
            self.stored[key] = replace(
                self.stored[key], not_read=reason, unusable=True, broken=True
            )
        return self._read()

    def _where_broken(self, key: str) -> str:
        """Say in which episodes an array is broken; empty where nobody knows."""
        return ""

    def _read(self) -> ReplayBuffer:
        keys = [key for key in self.low_dimensional if key != ACTION_KEY]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            buffer = self._load(keys) if keys else self._without_images()
        self.remarks = [str(w.message) for w in caught if not _is_assumption(w)]
        self._assume(caught)
        return buffer

    def _why_unreadable(self, key: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._load([key])
            except InputError as error:
                return str(error)
        return ""

    def open_camera(
        self, key: str, buffer: ReplayBuffer, n_episodes: int, cache: Path, *, quiet: bool
    ) -> np.ndarray:
        """Return images of the first episodes; see :meth:`Contents.open_camera`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = self._load([key], max_episodes=n_episodes, cache=cache, quiet=quiet)
        # `read_values` has said all the rest.
        self._assume(caught)
        return loaded.arrays[key]

    def _assume(self, caught: Sequence[warnings.WarningMessage]) -> None:
        """Note what the reader took for granted, each once."""
        assumed = dict.fromkeys(str(w.message) for w in caught if _is_assumption(w))
        self.notes += [text for text in assumed if text not in self.notes]

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
        if self.action_key:
            options["action_key"] = self.action_key
        config = self._config(max_episodes=max_episodes, **options)
        return config.load(cache, quiet=quiet)


class LoadedContents(Contents):
    """A format that says no more of itself than what it loads by default."""

    def __init__(self, path: Path, config_class: type[DatasetConfig], action_key: str = "") -> None:
        """Load it; images that are not in memory stay in a folder that is gone with this.

        Raises:
            InputError: it is damaged, or an ``action_key`` is asked for that it cannot be told.
        """
        super().__init__(path)
        self._folder = tempfile.TemporaryDirectory()
        options: dict[str, Any] = {"path": str(path)}
        if action_key:
            if "action_key" not in {item.name for item in fields(config_class)}:
                raise InputError(
                    f"{path}: action_key '{action_key}' does not fit: the format has one action"
                )
            options["action_key"] = self.action_key = action_key
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            config = config_class(**options)
            self._buffer = config.load(Path(self._folder.name))
        self.format = config.name
        self.fps = config_class.facts(path).fps
        self.remarks = [str(warning.message) for warning in caught]
        for key, array in self._buffer.arrays.items():
            self.stored[key] = describe(key, array.shape, array.dtype, source=str(path))

    def read_values(self) -> ReplayBuffer:
        """Return action and observations; see :meth:`Contents.read_values`."""
        arrays = self._buffer.arrays
        return replace(self._buffer, arrays={key: arrays[key] for key in self.low_dimensional})

    def open_camera(
        self, key: str, buffer: ReplayBuffer, n_episodes: int, cache: Path, *, quiet: bool
    ) -> np.ndarray:
        """Return images of the first episodes; see :meth:`Contents.open_camera`."""
        return self._buffer.arrays[key][: int(buffer.episode_ends[n_episodes - 1])]


def without_levels(options: DatasetConfig) -> DatasetConfig:
    """Return options that read as they are levels of depth of which nothing notes the range.

    Recordings of a robot hold such levels, earlier ones without a note.
    """
    if not options.depth:
        return options
    contents = options.contents(Path(getattr(options, "path", "")))
    levels = {key for key, array in contents.stored.items() if array.dtype == "uint8"}
    kept = {k: ends for k, ends in options.depth.items() if k not in levels or k in contents.depth}
    return replace(options, depth=kept)


def stored_name(key: str, stored: Collection[str]) -> str:
    """Return what a dataset calls an observation; LeRobot's names begin with what it is."""
    candidates = (key, f"observation.{key}", f"observation.images.{key}")
    return next((name for name in candidates if name in stored), key)


def called_actions(names: Iterable[str]) -> list[str]:
    """Return the names among those of arrays that tell of actions."""
    return [name for name in names if "action" in name.lower()]


def action_alone(names: Iterable[str]) -> str:
    """Return the only name among those of arrays that tells of actions; empty if none does."""
    likely = called_actions(names)
    return likely[0] if len(likely) == 1 else ""


def _is_assumption(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, AssumptionWarning)


def describe(
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    *,
    source: str,
    ranks: tuple[int, ...] = (),
    is_camera: bool | None = None,
) -> StoredArray:
    """Return what is done with an array of this shape and dtype.

    Args:
        name: of the array, for messages.
        shape: time first, (T, ...).
        dtype: as it is stored.
        source: the dataset, for messages.
        ranks: ranks that the format takes for other arrays than images; by default any from 2 on.
        is_camera: whether the format takes it for images; by default if `is_image`.
    """
    if looks_like_depth(shape[1:], dtype):
        advice = as_depth_advice(name.rsplit("/", 1)[-1])
        reason = f"{dtype} images, as depth is: not read; {advice}"
        return StoredArray(shape, str(dtype), False, reason)
    if is_camera is None:
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
