"""What a zarr replay buffer holds."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from lfm_policy.data.replay_buffer import ReplayBuffer, check_lengths
from lfm_policy.data.tools.contents import Contents, StoredArray, describe
from lfm_policy.errors import InputError


class ZarrContents(Contents):
    """A zarr replay buffer: every array under ``data/`` but the numbers of its named tasks."""

    format = "zarr"
    prefix = "data/"

    def __init__(self, path: Path) -> None:
        """Read the metadata of all arrays, and where the episodes end.

        Raises:
            InputError: not a zarr store, or its episode ends are absent or damaged.
        """
        from lfm_policy.data.tasks.zarr import named_by
        from lfm_policy.data.zarr.store import LOW_DIMENSIONAL, list_zarr, stored_ends, stored_rate

        super().__init__(path)
        self.fps = stored_rate(path)
        listing, source = list_zarr(path), str(path)
        self.depth = listing.depth
        n_steps, tasks_in = int(stored_ends(path)[-1]), named_by(path)
        for key, info in listing.readable.items():
            if key == tasks_in:  # which says what an episode shows, and is no observation
                continue
            name, is_camera = f"data/{key}", info.layout is not None
            array = describe(
                name,
                info.shape,
                info.dtype,
                source=source,
                ranks=LOW_DIMENSIONAL,
                is_camera=is_camera,
            )
            try:
                if not array.unusable:
                    check_lengths({name: info.shape[0]}, n_steps=n_steps, source=source)
            except InputError as error:
                array = _broken(array, str(error))
            self.stored[key] = array
        self.stored |= listing.unreadable

    def read_values(self) -> ReplayBuffer:
        """Return the low-dimensional arrays; see :meth:`Contents.read_values`.

        Those that cannot be used are left out, and `stored` says why from then on.
        """
        from lfm_policy.data.zarr.store import load_usable

        with self._noting():
            buffer, problems = load_usable(self.path, self.low_dimensional)
        for key, problem in problems.items():
            self.stored[key] = _broken(self.stored[key], problem)
        return buffer

    def open_camera(
        self, key: str, buffer: ReplayBuffer, n_episodes: int, cache: Path, *, quiet: bool
    ) -> np.ndarray:
        """Return images of the first episodes; see :meth:`Contents.open_camera`."""
        from lfm_policy.data.zarr.store import zarr_images

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


def _broken(array: StoredArray, problem: str) -> StoredArray:
    return replace(array, is_camera=False, not_read=problem, unusable=True, broken=True)
