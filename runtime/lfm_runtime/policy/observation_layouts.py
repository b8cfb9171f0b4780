"""Observations as other projects' clients lay them out, turned into the layout a policy expects.

openpi's policies take camera images with the channels first, and floats in [0, 1]; a gripper is a
number to one program and a list of one to the next. Which layout was meant follows from the
expected shape alone: what fits as it is stays as it is.

The policy server uses this, because it does not choose its clients. Policies in the robot's own
process do not: there a wrong layout is a mistake in the program beside them, and an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lfm_runtime.errors import InputError
from lfm_runtime.policy.observations import as_array, is_image, not_finite, require_numbers


def arranged(key: str, value: Any, shape: tuple[int, ...], *, n_obs_steps: int) -> np.ndarray:
    """Return one observation, ``shape``, or its history, (n_obs_steps, *shape).

    Besides these two shapes it takes, each as one frame or as a history: images with the channels
    first, (channels, height, width), and grey ones without channels, (height, width); () where
    (1,) is expected, and (1,) where () is. Images of floats in [0, 1] become uint8 as openpi makes
    them, ``(255 * image).astype(uint8)``. Nothing else is converted.

    Args:
        key: name of the observation.
        value: what came; looked into, not copied, where that is possible.
        shape: of one frame.
        n_obs_steps: frames of a history.

    Raises:
        InputError: it is no array of numbers, has another shape, or is an image of floats outside
            [0, 1].
    """
    array = require_numbers(key, as_array(key, value))
    # The shape comes first: what is done to an array that fits is bounded by what the policy wants.
    if array.shape not in (shape, (n_obs_steps, *shape)):
        for leading in ((), (n_obs_steps,)):
            fitting = _rearranged(array, leading, shape)
            if fitting is not None:
                array = fitting
                break
        else:
            raise _wrong_shape(key, array.shape, shape, n_obs_steps)
    if is_image(shape) and array.dtype.kind == "f":
        return _uint8_image(key, array)
    return array


def _rearranged(
    array: np.ndarray, leading: tuple[int, ...], shape: tuple[int, ...]
) -> np.ndarray | None:
    """Return the array as (*leading, *shape); None if it has none of the layouts known for that."""
    expected = (*leading, *shape)
    if is_image(shape):
        height, width, channels = shape
        if array.shape == (*leading, channels, height, width):
            return np.moveaxis(array, -3, -1)
        if channels == 1 and array.shape == (*leading, height, width):
            return array.reshape(expected)
    elif (shape == (1,) and array.shape == leading) or (
        shape == () and array.shape == (*leading, 1)
    ):
        return array.reshape(expected)
    return None


def _uint8_image(key: str, image: np.ndarray) -> np.ndarray:
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise not_finite(key)
    if low < 0 or high > 1:
        raise InputError(
            f"observation '{key}' is an image of {image.dtype} from {low:g} to {high:g}, expected "
            "uint8 of 0 to 255, or floats in [0, 1]"
        )
    return (255 * image).astype(np.uint8)


def _wrong_shape(
    key: str, found: Sequence[int], shape: tuple[int, ...], n_obs_steps: int
) -> InputError:
    text = (
        f"observation '{key}' has shape {tuple(found)}, expected {shape}, or "
        f"{(n_obs_steps, *shape)} with its history"
    )
    if is_image(shape) and (size := _image_size(found, channels=shape[2])):
        text += (
            f": an image {size[0]} high and {size[1]} wide, expected {shape[0]} high and "
            f"{shape[1]} wide; resize it before it is sent"
        )
    return InputError(text)


def _image_size(found: Sequence[int], *, channels: int) -> tuple[int, int] | None:
    """Return height and width of what is an image of so many channels, or a history of such."""
    if len(found) not in (3, 4):
        return None
    if found[-1] == channels:
        return found[-3], found[-2]
    return (found[-2], found[-1]) if found[-3] == channels else None
