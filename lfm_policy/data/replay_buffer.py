"""Demonstrations in memory, whatever file format they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lfm_policy.data.images.cache import cached_digest
from lfm_policy.data.resolution import needs_float64
from lfm_policy.errors import InputError
from lfm_runtime.policy.spec import is_image

ACTION_KEY = "action"
"""Name of the action array in every :class:`ReplayBuffer`, whatever the file calls it."""


@dataclass(frozen=True)
class ReplayBuffer:
    """Episodes laid end to end, time first.

    Attributes:
        arrays: name -> array of shape (T, ...), C-contiguous, the same T for all. Camera images
            are uint8 (T, height, width, channels), usually memory-mapped; see `is_image`.
        episode_ends: (E,) int64, cumulative and exclusive: episode e holds the steps
            ``episode_ends[e - 1] <= t < episode_ends[e]`` (from 0 for the first).
        source: where the data came from, for messages.
        unscaled: name -> elements of a step that a normaliser leaves as they are, whatever its
            mode: a rotation's numbers mean nothing one by one.
        recorded: camera -> shape of its frames as they were recorded, and as a policy is given
            them, where the frames here may have been resized (see `ImageCache`).
        depth: camera of depth -> the nearest and the farthest distance of its levels, see
            `DataSpec`.
        tasks: what the array ``task`` tells apart, see `DataSpec`; empty: nothing does.
    """

    arrays: dict[str, np.ndarray]
    episode_ends: np.ndarray
    source: str = "replay buffer"
    unscaled: dict[str, tuple[int, ...]] = field(default_factory=dict)
    recorded: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    depth: dict[str, tuple[float, float]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    @property
    def n_steps(self) -> int:
        """Number of steps of all episodes together."""
        return int(self.episode_ends[-1]) if len(self.episode_ends) else 0

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return len(self.episode_ends)

    @property
    def episode_starts(self) -> np.ndarray:
        """First step of every episode, (E,) int64."""
        return np.concatenate([np.zeros(1, np.int64), self.episode_ends[:-1]])

    @property
    def episode_lengths(self) -> np.ndarray:
        """Number of steps of every episode, (E,) int64."""
        return np.diff(self.episode_ends, prepend=0)

    def step_shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of one step of an array; of a camera's frames as recorded."""
        return self.recorded.get(key) or self.arrays[key].shape[1:]

    def place(self, step: int) -> tuple[int, int]:
        """Return (episode, step within the episode) of a step counted over all episodes."""
        episode = int(np.searchsorted(self.episode_ends, step, side="right"))
        return episode, int(step - self.episode_starts[episode])

    def validate(self) -> None:
        """Check everything that windows, normaliser and training rely on.

        Raises:
            InputError: an array is not numeric, has a wrong rank or length, or holds NaN or
                infinity (in float32); the episode ends do not increase; there is no array.
        """
        if not self.arrays:
            raise InputError(f"{self.source}: no arrays were read, so there is nothing to learn")
        check_episode_ends(self.episode_ends, source=self.source)
        for key, array in self.arrays.items():
            check_array_type(key, array.shape, array.dtype, source=self.source)
            if is_image(array.shape[1:]) and array.dtype != np.uint8:
                raise InputError(f"{self.source}: images {key} are {array.dtype}, expected uint8")
        lengths = {key: len(array) for key, array in self.arrays.items()}
        check_lengths(lengths, n_steps=self.n_steps, source=self.source)
        for key, array in self.arrays.items():
            rows, value = not_finite(array)
            if len(rows):
                episode, step = self.place(rows[0])
                raise InputError(
                    f"{self.source}: {key} holds {value} in episode {episode}, step {step} (row "
                    f"{rows[0]} of the array; {len(rows)} such rows in all); every value must be a "
                    "finite float32: repair or drop these episodes"
                )

    def check_shapes(self, shapes: Mapping[str, Sequence[int]], owner: str) -> None:
        """Check that arrays are there and have these shapes per step.

        Args:
            shapes: name -> shape of one step.
            owner: whose shapes they are, for the message.

        Raises:
            InputError: one is missing or has another shape.
        """
        for key, shape in shapes.items():
            found = self.step_shape(key) if key in self.arrays else None
            if found != tuple(shape):
                problem = f"has no {key}" if found is None else f"{key} has shape {found} per step"
                raise InputError(
                    f"{self.source}: {problem}, expected {tuple(shape)}, as {owner} has it"
                )

    def select_episodes(self, episodes: Iterable[int] | np.ndarray) -> ReplayBuffer:
        """Return a buffer that holds only ``episodes``, in the order given.

        Raises:
            InputError: an episode does not exist.
        """
        chosen = np.asarray(list(episodes), dtype=np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= self.n_episodes):
            raise InputError(
                f"{self.source}: episodes {chosen.min()} to {chosen.max()} were asked for, but "
                f"there are only episodes 0 to {self.n_episodes - 1}"
            )
        ends = np.cumsum(self.episode_lengths[chosen], dtype=np.int64)
        steps: slice | np.ndarray = self.steps_of(chosen)
        if np.array_equal(chosen, np.arange(len(chosen))):
            # The first episodes: no copy, so that mapped images stay mapped.
            steps = slice(int(ends[-1]) if len(ends) else 0)
        return replace(
            self,
            arrays={key: array[steps] for key, array in self.arrays.items()},
            episode_ends=ends,
        )

    def numbered(self, tasks: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Return the different tasks, and which of them every step shows, (T,) int64.

        Args:
            tasks: what each episode shows.
        """
        names = list(dict.fromkeys(tasks))
        number = {name: index for index, name in enumerate(names)}
        shown = np.array([number[task] for task in tasks], dtype=np.int64)
        return names, np.repeat(shown, self.episode_lengths)

    def steps_of(self, episodes: np.ndarray) -> np.ndarray:
        """Return the time indices of all steps of ``episodes``, in that order, int64."""
        spans = [
            np.arange(start, end, dtype=np.int64)
            for start, end in zip(
                self.episode_starts[episodes], self.episode_ends[episodes], strict=True
            )
        ]
        return np.concatenate(spans) if spans else np.zeros(0, np.int64)

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, shapes, values and episode ends.

        Two buffers have the same fingerprint exactly when training sees the same data, whichever
        file format, dtype or order of keys it was read from, and whichever size the cache has
        given to the frames.
        """
        digest = hashlib.sha256()
        for key in sorted(self.arrays):
            array = self.arrays[key]
            digest.update(f"{key} {(len(array), *self.step_shape(key))}\n".encode())
            if is_image(array.shape[1:]):
                digest.update((cached_digest(array) or _digest_in_parts(array)).encode())
            else:
                # As training sees it: in float32, unless that would not tell the values apart.
                dtype = "<f8" if needs_float64(array) else "<f4"
                digest.update(np.ascontiguousarray(array, dtype=dtype).data)
        digest.update(np.ascontiguousarray(self.episode_ends, dtype="<i8").data)
        return digest.hexdigest()


def not_finite(array: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return which steps of an array (T, ...) are not finite as training sees them, in float32.

    Returns:
        Their indices, int64, and the first such value; none and None if all is well.
    """
    if array.dtype.kind != "f":
        return np.zeros(0, np.int64), None
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, as in training
        finite = np.isfinite(array.astype(np.float32, copy=False)).reshape(len(array), -1)
    steps = np.flatnonzero(~finite.all(axis=1))
    if not len(steps):
        return steps, None
    return steps, array[steps[0]].reshape(-1)[~finite[steps[0]]][0]


def _digest_in_parts(array: np.ndarray) -> str:
    digest = hashlib.sha256()
    for begin in range(0, len(array), 1024):
        digest.update(np.ascontiguousarray(array[begin : begin + 1024]).data)
    return digest.hexdigest()


def check_array_type(
    key: str, shape: tuple[int, ...], dtype: np.dtype, *, source: str, ranks: tuple[int, ...] = ()
) -> None:
    """Check that an array is numeric and time first, from its metadata alone.

    Args:
        key: its name, for the message.
        shape: its shape.
        dtype: its dtype.
        source: file or dataset, for the message.
        ranks: the ranks allowed; by default 2 for the action and at least 2 for all others.

    Raises:
        InputError: dtype or rank is another.
    """
    if dtype.kind not in "fiub":
        raise InputError(
            f"{source}: {key} has dtype {dtype}; expected numbers (float, integer or boolean)"
        )
    is_action = key.rsplit("/", 1)[-1] == ACTION_KEY
    if not ranks:
        ranks = (2,) if is_action else tuple(range(2, 33))
    if len(shape) not in ranks:
        expected = "(steps, action_dim)" if is_action else "(steps, dim)"
        hint = "; store a scalar per step as (steps, 1)" if len(shape) == 1 else ""
        raise InputError(
            f"{source}: {key} has rank {len(shape)}, shape {tuple(shape)}; expected a shape such "
            f"as {expected}, time first{hint}"
        )
    if 0 in shape[1:]:
        raise InputError(
            f"{source}: {key} has shape {tuple(shape)}: it holds no values; leave it out"
        )


def check_episode_ends(ends: np.ndarray, *, source: str) -> None:
    """Check cumulative, exclusive episode ends.

    Raises:
        InputError: wrong rank or dtype, no episode, an empty episode, or not increasing.
    """
    name = f"{source}: episode_ends"
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise InputError(
            f"{name} has shape {ends.shape} and dtype {ends.dtype}; expected rank 1 and int64"
        )
    if len(ends) == 0:
        raise InputError(f"{name} is empty: the dataset holds no episode")
    lengths = np.diff(ends.astype(np.int64), prepend=0)
    if (lengths < 0).any():
        episode = int(np.argmax(lengths < 0))
        before = int(ends[episode - 1]) if episode else 0
        raise InputError(
            f"{name} is not increasing: episode {episode} ends at {int(ends[episode])}, before "
            f"its start {before}; the ends must be cumulative and exclusive (lengths 3 and 4 "
            "give [3, 7])"
        )
    if (lengths == 0).any():
        episode = int(np.argmax(lengths == 0))
        raise InputError(
            f"{name}: episode {episode} is empty (its end {int(ends[episode])} equals its start); "
            "drop this episode"
        )


def check_lengths(lengths: Mapping[str, int], *, n_steps: int, source: str) -> None:
    """Check that every array has as many steps as the episode ends say.

    Raises:
        InputError: one has another number; the message names it.
    """
    for key, length in lengths.items():
        if length != n_steps:
            raise InputError(
                f"{source}: {key} has {length} steps, but the last of episode_ends is {n_steps}; "
                "every array must have exactly that many: the recording is incomplete, or the "
                "ends belong to another one"
            )
