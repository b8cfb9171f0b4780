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
    """A zarr replay buffer: every array under ``data/``, whatever training would use of it."""

    format = "zarr"
    prefix = "data/"

    def __init__(self, path: Path) -> None:
        """Read the metadata of all arrays.

        Raises:
            InputError: not a zarr store.
        """
        from lfm_policy.data.zarr.store import LOW_DIMENSIONAL, list_zarr

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
        from lfm_policy.data.zarr.store import load_usable

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
