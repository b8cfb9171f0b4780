"""What a dataset of any format holds, before its values are read."""

from __future__ import annotations

import contextlib
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lfm_policy.data.assumption import AssumptionWarning
from lfm_policy.data.detect import detect_format
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.replay_buffer import (
    ACTION_KEY,
    ReplayBuffer,
    check_array_type,
    check_lengths,
)
from lfm_policy.errors import InputError
from lfm_policy.inspection.finding import listed
from lfm_runtime.files import temporary_folder
from lfm_runtime.observations import is_image

if TYPE_CHECKING:
    from lfm_policy.data.robomimic_file import KeyInfo

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
        notes: what else is worth knowing: what it says of itself, and what its reader took for
            granted, once values and images are read.
    """

    format: str
    prefix: str = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps: float | None = None
        self.stored: dict[str, StoredArray] = {}
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
            InputError: not a zarr store.
        """
        from lfm_policy.data.zarr_store import LOW_DIMENSIONAL, list_zarr

        super().__init__(path)
        listing = list_zarr(path)
        for key, info in listing.readable.items():
            self.stored[key] = describe(
                f"data/{key}",
                info.shape,
                info.dtype,
                source=str(path),
                ranks=LOW_DIMENSIONAL,
                is_camera=info.layout is not None,
            )
        for key, array in listing.unreadable.items():
            self.stored[key] = StoredArray(array.shape, array.dtype, False, array.problem, True)

    def read_values(self) -> ReplayBuffer:
        """Return the low-dimensional arrays; see :meth:`Contents.read_values`.

        Those that cannot be used are left out, and `stored` says why from then on, as it does of
        cameras with another number of steps.
        """
        from lfm_policy.data.zarr_store import load_usable

        with self._noting():
            buffer, problems = load_usable(self.path, self.low_dimensional)
        for key in self.cameras:
            try:
                check_lengths(
                    {f"data/{key}": self.stored[key].shape[0]},
                    n_steps=buffer.n_steps,
                    source=str(self.path),
                )
            except InputError as error:
                problems[key] = str(error)
        for key, problem in problems.items():
            self.stored[key] = replace(
                self.stored[key], is_camera=False, not_read=problem, unusable=True
            )
        return buffer

    def open_camera(
        self, key: str, buffer: ReplayBuffer, n_episodes: int, cache: Path, *, quiet: bool
    ) -> np.ndarray:
        """Return images of the first episodes; see :meth:`Contents.open_camera`."""
        from lfm_policy.data.zarr_store import zarr_images

        n_frames = int(buffer.episode_ends[n_episodes - 1])
        with self._noting():
            images = zarr_images(self.path, key, n_frames)
            if images.remark:
                self.notes.append(images.remark)
            return images.open(cache, quiet=quiet)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep what the reader warns of as notes."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        said = dict.fromkeys(str(warning.message) for warning in caught)
        self.notes += [text for text in said if text not in self.notes]


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
        self.remarks = [str(w.message) for w in caught if not _is_assumption(w)]
        self._assume(caught)
        return buffer

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
        from lfm_policy.data.robomimic_env import control_freq
        from lfm_policy.data.robomimic_summary import inspect_robomimic

        super().__init__(path)
        summary = inspect_robomimic(path)
        self._n_steps = sum(summary.demos.values())
        self.fps = control_freq(summary.env_args)
        if summary.env_problem:
            self.notes.append(
                f"{summary.env_problem}; training does without, evaluation will ask for --env"
            )
        self.notes += [f"filter key is not usable: {reason}" for reason in summary.unusable_masks]
        if summary.failed:
            self.notes.append(
                f"{len(summary.failed)} of {len(summary.demos)} demos are marked success = False "
                f"({listed(summary.failed, 4)}): they are read like the others; to leave them out, "
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
        from lfm_policy.data.robomimic_file import RobomimicFile

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


class LeRobotContents(ConfiguredContents):
    """A LeRobot dataset: the action and every ``observation`` feature."""

    format = "lerobot"

    def __init__(self, path: Path) -> None:
        """Read what is under ``meta/``, and of each feature of what kind its first file is.

        Raises:
            InputError: it is damaged or of an unknown version.
        """
        from lfm_policy.data.lerobot_choice import Choice, announced, check_stored
        from lfm_policy.data.lerobot_episodes import read_episodes
        from lfm_policy.data.lerobot_feature import UnusableFeature
        from lfm_policy.data.lerobot_info import read_info

        super().__init__(path)
        self._info = read_info(path)
        self.fps = self._info.fps
        keys = [k for k in self._info.features if k == ACTION_KEY or k.startswith("observation.")]
        choice = Choice(str(path), asked=set())
        described = choice.passing(keys, lambda key: announced(self._info, key))
        videos = [feature.key for feature in described.values() if feature.dtype == "video"]
        self._episodes = read_episodes(self._info, videos)

        def check(key: str) -> None:
            try:
                check_stored(described[key], self._episodes)
            except UnusableFeature:
                raise
            except InputError:
                if not described[key].is_camera:  # whose images are looked at one by one
                    raise

        choice.passing(described, check)
        n_steps = sum(episode.length for episode in self._episodes)
        for key in keys:
            if key in choice.left_out:
                entry, reason = self._info.features[key], choice.left_out[key]
                dtype = str(entry.get("dtype"))[:20] if isinstance(entry, dict) else ""
                self.stored[key] = StoredArray((n_steps,), dtype, False, reason, unusable=True)
                continue
            feature = described[key]
            shape = (n_steps, *feature.shape)
            self.stored[key] = (
                StoredArray(shape, feature.dtype, True)
                if feature.is_camera
                else describe(key, shape, np.dtype(feature.dtype), source=str(path))
            )

    def read_values(self) -> ReplayBuffer:
        """Return action and observations; see :meth:`Contents.read_values`.

        An observation with damaged rows is unusable from then on; the others are read.
        """
        try:
            return super().read_values()
        except InputError:
            for key in self.low_dimensional:
                if key == ACTION_KEY:
                    continue
                try:
                    self._load([key])
                except InputError as error:
                    self.stored[key] = replace(self.stored[key], not_read=str(error), unusable=True)
            # Where it was the action, or a file of all, it is the same error again.
            return super().read_values()

    def _without_images(self) -> ReplayBuffer:
        from lfm_policy.data.assumption import warn_assumed
        from lfm_policy.data.lerobot_rows import read_rows

        action = self._info.feature(ACTION_KEY)
        rows = read_rows(self._info, self._episodes, [action])
        warn_assumed(self._info.path, self._info.assumed)
        warn_assumed(f"{self.path} (parquet files)", rows.assumed)
        ends = np.cumsum([episode.length for episode in self._episodes], dtype=np.int64)
        buffer = ReplayBuffer({ACTION_KEY: rows.arrays[ACTION_KEY]}, ends, source=str(self.path))
        buffer.validate()
        return buffer


_CONTENTS: dict[str, type[Contents]] = {
    kind.format: kind for kind in (ZarrContents, RobomimicContents, LeRobotContents)
}


def _is_assumption(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, AssumptionWarning)


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
