"""Observations before a policy sees them: their kinds, their checks and their history."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.policy.depth import depth_levels
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
        frame = _with_channel(frame, (), shape) if key in spec.depth else frame
        if frame.shape != tuple(shape):
            raise InputError(
                f"observation '{key}' has shape {frame.shape}, expected {tuple(shape)}"
                + image_advice(frame.shape, shape)
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
        value = _with_channel(value, value.shape[:2], shape) if key in spec.depth else value
        expected = (n_obs_steps, *shape)
        if value.ndim != len(expected) + 1 or value.shape[1:] != expected:
            raise InputError(
                f"observation '{key}' has shape {value.shape}, expected (B, "
                f"{', '.join(str(size) for size in expected)}): batch, n_obs_steps, then one frame"
                + image_advice(value.shape[2:], shape)
            )
        n_rows = len(next(iter(obs.values()), value))
        if len(value) != n_rows:
            raise InputError(f"observation '{key}' has {len(value)} rows, the others have {n_rows}")
        obs[key] = require_finite(key, value)
    return obs


def array_of(key: str, value: Any, spec: DataSpec) -> np.ndarray:
    """Return a copy of an observation of any shape as an array of its `DataSpec.dtype`.

    A copy, because many environments return the same array again and again. Images of depth may
    come in any numbers: they become levels as in training. What is uint8 is levels already.

    Raises:
        InputError: it is not an array of real numbers; for a camera image, not one of uint8; for
            float64, in a smaller format, in which the values have lost what tells them apart.
    """
    array, dtype = as_numbers(key, value), spec.dtype(key)
    if key in spec.depth and array.dtype != np.uint8:
        array = depth_levels(array, *spec.depth[key])
    if dtype == "uint8" and array.dtype != np.uint8:
        raise InputError(
            f"observation '{key}' has dtype {array.dtype}, expected uint8: camera images of 0 to "
            "255, (height, width, channels)"
        )
    if dtype == "float64" and array.dtype.kind == "f" and array.dtype.itemsize < 8:
        raise InputError(
            f"observation '{key}' has dtype {array.dtype}, expected float64 as in training: its "
            "values are so far from zero that float32 cannot tell them apart"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        return np.array(array, dtype=dtype, order="C")


def _with_channel(
    array: np.ndarray, leading: tuple[int, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """Return depth as (*leading, height, width, 1); as it is where it is nothing of the kind."""
    height, width, _ = shape
    is_depth = array.shape in ((*leading, height, width), (*leading, 1, height, width))
    return array.reshape(*leading, *shape) if is_depth else array


def image_advice(found: Sequence[int], shape: Sequence[int]) -> str:
    """Return what makes a camera image of another layout fit, to follow what was found.

    Args:
        found: shape of one frame that came.
        shape: of one frame, as the policy was trained.

    Returns:
        ``""`` for what is no image, or where nobody can say.
    """
    if not is_image(shape):
        return ""
    height, width, channels = shape
    found = tuple(found)
    if found == (channels, height, width):
        return ": its channels come first: give numpy.moveaxis(image, -3, -1)"
    if found == (height, width):
        repeat = "" if channels == 1 else f".repeat({channels}, axis=-1)"
        return f": it has no axis of channels: give image[..., None]{repeat}"
    if found == (height, width, 4) and channels == 3:
        return ": its fourth channel is alpha: give image[..., :3]"
    if found == (height, width, 3) and channels == 1:
        return ": it is in colours and the demonstrations are grey: give what these hold"
    if found == (height, width, 1):
        return f": it is grey: give image.repeat({channels}, axis=-1)"
    if len(found) == 3 and channels in (found[0], found[2]):
        high, wide = found[:2] if found[2] == channels else found[1:]
        return (
            f": an image {high} high and {wide} wide, expected {height} high and {width} wide; "
            "resize it first"
        )
    return ""


def require_finite(key: str, array: np.ndarray) -> np.ndarray:
    """Return the array.

    Raises:
        InputError: there is NaN or infinity in it.
    """
    if array.dtype != np.uint8 and not np.isfinite(array).all():
        raise InputError(f"observation '{key}' contains NaN or infinity")
    return array


def as_numbers(key: str, value: Any) -> np.ndarray:
    """Return an observation as an array of real numbers, without copying what is one.

    Raises:
        InputError: it is none, is a list whose rows differ in length, or holds texts.
    """
    if value is None:  # numpy would make an array of one object of it
        raise InputError(
            f"observation '{key}' is None, expected numbers: did its sensor give nothing?"
        )
    if isinstance(value, (list, tuple)):
        _check_no_texts(key, value)
    try:
        array = np.asarray(value)
    except Exception as error:  # objects may convert themselves, and raise whatever they like
        raise InputError(f"observation '{key}' is not an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"observation '{key}' has dtype {array.dtype}, expected numbers")
    return array


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


def remember(history: deque[T], frame: T) -> None:
    """Take the newest of the last ``history.maxlen`` frames, oldest first.

    The first one after ``history.clear()`` stands for those there were not before it.
    """
    history.extend([frame] * (1 if history else history.maxlen or 1))


def stacked(frames: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the observations of frames by name, (number of frames, *shape) each."""
    frames = list(frames)
    return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}
