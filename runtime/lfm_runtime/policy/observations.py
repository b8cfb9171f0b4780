"""Observations before a policy sees them: their kinds, their checks and their history."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.policy.spec import DataSpec, is_image

T = TypeVar("T")


def require_observation(key: str, obs: Mapping[str, Any], known: Iterable[str]) -> Any:
    """Return ``obs[key]``.

    Raises:
        InputError: it is missing; the message lists what is there and what the policy ``known``.
            Or ``obs`` is no map.
    """
    if not isinstance(obs, Mapping):
        raise InputError(
            f"found {type(obs).__name__}, expected a map from the names {sorted(known)} to "
            "observations"
        )
    if key not in obs:
        # Names need not be text where they come from foreign code.
        found = sorted(str(name)[:60] for name in obs)
        raise InputError(
            f"observation '{key}' is missing: found {found or 'nothing'}, expected {sorted(known)}"
        )
    return obs[key]


def checked_frames(
    obs: Mapping[str, Any], spec: DataSpec, plain: Callable[[Any], Any] = lambda value: value
) -> dict[str, np.ndarray]:
    """Return a copy of all observations that a policy sees of one step, each of its dtype.

    Args:
        obs: by name, each one frame; other names are left.
        spec: of the policy.
        plain: returns what numpy can read, for callers that take other arrays too.

    Raises:
        InputError: one is missing, is no array of numbers, has another shape, or is not finite.
    """
    frames = {}
    for key, shape in spec.obs_shapes.items():
        frame = array_of(key, plain(require_observation(key, obs, spec.obs_shapes)), spec)
        if frame.shape != tuple(shape):
            raise InputError(
                f"observation '{key}' has shape {frame.shape}, expected {tuple(shape)}"
            )
        # Now and not when the next chunk is sampled: a bad frame must not enter the history.
        frames[key] = require_finite(key, frame)
    return frames


def checked_batch(
    batch: Mapping[str, Any],
    spec: DataSpec,
    plain: Callable[[Any], Any] = lambda value: value,
    *,
    n_obs_steps: int,
) -> dict[str, np.ndarray]:
    """Return a copy of a batch of histories, each (B, n_obs_steps, *shape), of its dtype.

    Args:
        batch: by name; other names are left.
        spec: of the policy.
        plain: as in `checked_frames`.
        n_obs_steps: frames of a history.

    Raises:
        InputError: an observation is missing, is no array of numbers, has another shape or not as
            many rows as those before it, or is not finite.
    """
    obs: dict[str, np.ndarray] = {}
    for key, shape in spec.obs_shapes.items():
        value = array_of(key, plain(require_observation(key, batch, spec.obs_shapes)), spec)
        expected = (n_obs_steps, *shape)
        if value.ndim != len(expected) + 1 or value.shape[1:] != expected:
            raise InputError(
                f"observation '{key}' has shape {value.shape}, expected (B, "
                f"{', '.join(str(size) for size in expected)}): batch, n_obs_steps, then one frame"
            )
        n_rows = len(next(iter(obs.values()), value))
        if len(value) != n_rows:
            raise InputError(f"observation '{key}' has {len(value)} rows, the others have {n_rows}")
        obs[key] = require_finite(key, value)
    return obs


def array_of(key: str, value: Any, spec: DataSpec) -> np.ndarray:
    """Return a copy of an observation of any shape as an array of its `DataSpec.dtype`.

    Raises:
        InputError: as `image_array` or `float_array`.
    """
    if is_image(spec.obs_shapes[key]):
        return image_array(key, value)
    return float_array(key, value, spec.dtype(key))


def require_finite(key: str, array: np.ndarray) -> np.ndarray:
    """Return the array.

    Raises:
        InputError: there is NaN or infinity in it.
    """
    if array.dtype != np.uint8 and not np.isfinite(array).all():
        raise not_finite(key)
    return array


def not_finite(key: str) -> InputError:
    """Return the error for an observation with NaN or infinity in it."""
    return InputError(f"observation '{key}' contains NaN or infinity")


def image_array(key: str, value: Any) -> np.ndarray:
    """Return a copy of camera images as a uint8 array.

    Raises:
        InputError: it is not an array of uint8.
    """
    array = as_array(key, value)
    if array.dtype != np.uint8:
        raise InputError(
            f"observation '{key}' has dtype {array.dtype}, expected uint8: camera images of 0 to "
            "255, (height, width, channels)"
        )
    return np.array(array, order="C")


def float_array(key: str, value: Any, dtype: str = "float32") -> np.ndarray:
    """Return a copy of an observation as an array of ``dtype``, of whatever numbers it was.

    A copy, because many environments return the same array again and again.

    Args:
        key: its name, for messages.
        value: numbers; for ``float64`` not in a smaller format, in which they would have lost
            what tells them apart already.
        dtype: see `lfm_runtime.policy.spec.DataSpec.dtype`.

    Raises:
        InputError: it is not an array of real numbers, or it is float32 or less where float64 is
            expected.
    """
    array = require_numbers(key, as_array(key, value))
    if dtype == "float64" and array.dtype.kind == "f" and array.dtype.itemsize < 8:
        raise InputError(
            f"observation '{key}' has dtype {array.dtype}, expected float64 as in training: its "
            "values are so far from zero that float32 cannot tell them apart"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        return np.array(array, dtype=dtype, order="C")


def require_numbers(key: str, array: np.ndarray) -> np.ndarray:
    """Return the array.

    Raises:
        InputError: it is not an array of real numbers.
    """
    if array.dtype.kind not in "fiub":
        raise InputError(f"observation '{key}' has dtype {array.dtype}, expected numbers")
    return array


def as_array(key: str, value: Any) -> np.ndarray:
    """Return an observation as an array, without copying what is one.

    Raises:
        InputError: it is a list whose rows differ in length, or that holds texts.
    """
    if isinstance(value, (list, tuple)):
        _check_no_texts(key, value)
    try:
        return np.asarray(value)
    except Exception as error:  # objects may convert themselves, and raise whatever they like
        raise InputError(f"observation '{key}' is not an array: {error}") from None


def _check_no_texts(key: str, values: Sequence[Any]) -> None:
    # numpy makes all texts of a list as long as the longest: a few megabytes would ask for
    # gigabytes before their dtype could be refused.
    lists, seen = [values], {id(values)}
    while lists:
        for value in lists.pop():
            if isinstance(value, (list, tuple)):
                if id(value) not in seen:  # a list may hold itself
                    seen.add(id(value))
                    lists.append(value)
            elif isinstance(value, (str, bytes)) or (
                isinstance(value, np.ndarray) and value.dtype.kind in "SU"
            ):
                raise InputError(f"observation '{key}' is a list with texts, expected numbers")


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
