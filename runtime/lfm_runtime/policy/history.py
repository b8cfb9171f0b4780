"""The last frames of observation."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class History(Generic[T]):
    """The last ``n_obs_steps`` frames; the first one stands for those there were not before it.

    Args:
        n_obs_steps: how many frames a policy sees, at least one.
    """

    def __init__(self, n_obs_steps: int) -> None:
        self._frames: deque[T] = deque(maxlen=n_obs_steps)
        self._n_obs_steps = n_obs_steps

    def __len__(self) -> int:
        """Return 0 before the first frame, ``n_obs_steps`` ever after."""
        return len(self._frames)

    @property
    def frames(self) -> tuple[T, ...]:
        """Oldest first."""
        return tuple(self._frames)

    @property
    def newest(self) -> T | None:
        """The last frame; None before the first."""
        return self._frames[-1] if self._frames else None

    def add(self, frame: T) -> None:
        """Take the newest frame; the first one fills the whole history."""
        self._frames.append(frame)
        while len(self._frames) < self._n_obs_steps:
            self._frames.append(frame)

    def replace(self, frames: Sequence[T]) -> None:
        """Take ``n_obs_steps`` frames, oldest first, for all that was remembered."""
        self._frames.clear()
        self._frames.extend(frames)

    def clear(self) -> None:
        """Forget all frames; call at the start of an episode."""
        self._frames.clear()


def stacked(frames: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the observations of frames by name, (number of frames, *shape) each."""
    return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}
