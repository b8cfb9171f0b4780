"""The observations of one robot: laid out as the policy wants them, checked, and remembered.

openpi's policies take camera images with the channels first, and floats in [0, 1]; a gripper is a
number to one program and a list of one to the next. Which layout was meant follows from the
expected shape alone: what fits as it is stays as it is. The server rearranges, because it does not
choose its clients. Policies in the robot's own process do not: there a wrong layout is a mistake in
the program beside them, and an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from einops import rearrange

from lfm_policy.errors import InputError
from lfm_runtime.policy.observations import (
    array_of,
    as_numbers,
    image_advice,
    remember,
    require_finite,
    stacked,
)
from lfm_runtime.policy.spec import TASK_KEY, DataSpec, is_image
from lfm_runtime.policy.tasks import one_hot
from lfm_runtime.wire.protocol import PROMPT

IGNORED_KEYS = frozenset({PROMPT})

_INSTRUCTION = "__"
"""How the protocol's own names begin; one that is not known here is not left out silently."""

_MAXIMUM_NAMES = 20


class ConnectionHistory:
    """The last ``n_obs_steps`` frames of one connection.

    The first frame after `clear` fills the whole history, as in `Policy.select_action`.

    Args:
        spec: names, shapes and dtypes of the observations.
        n_obs_steps: frames that the policy sees.
        strict: refuse names that the policy does not know, instead of leaving them out.
        task: which one, of a policy of several, where a client does not say it.
    """

    def __init__(
        self,
        spec: DataSpec,
        n_obs_steps: int,
        *,
        strict: bool = False,
        task: str | None = None,
    ) -> None:
        self._spec, self._task = spec, task
        self._shapes = spec.obs_shapes
        self._n_obs_steps = n_obs_steps
        self._strict = strict
        self._frames: deque[dict[str, np.ndarray]] = deque(maxlen=n_obs_steps)

    def clear(self) -> None:
        """Forget all frames; call at the start of an episode."""
        self._frames.clear()

    def add(self, obs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the history with this observation as its newest, each (n_obs_steps, *shape).

        Each of its `DataSpec.dtype`. Nothing is remembered of an observation that is
        refused.

        Args:
            obs: either one frame, each observation of its own shape, or the whole history, each
                (n_obs_steps, *shape), which then replaces what was remembered; laid out as
                `arranged` knows.

        Raises:
            InputError: an observation is missing, of another shape or dtype, or not finite; or
                some are one frame and others a history; or a name is not known, and means an
                instruction or must be known (``strict``).
        """
        obs, named = self._with_task(obs)
        self._check_keys(obs)
        checked = {}
        for key, shape in self._shapes.items():
            fitting = arranged(
                key,
                obs[key],
                shape,
                n_obs_steps=self._n_obs_steps,
                is_depth=key in self._spec.depth,
            )
            checked[key] = require_finite(key, array_of(key, fitting, self._spec))
        histories = sorted(key for key in checked if checked[key].ndim > len(self._shapes[key]))
        if named and histories:  # one name for all of it
            checked[TASK_KEY] = np.repeat(checked[TASK_KEY][None], self._n_obs_steps, axis=0)
            histories.append(TASK_KEY)
        if not histories:
            remember(self._frames, checked)
            return stacked(self._frames)
        if len(histories) < len(checked) and self._n_obs_steps == 1:  # a frame is its history
            checked |= {k: checked[k][None] for k in checked.keys() - set(histories)}
        elif len(histories) < len(checked):
            raise InputError(
                f"observations {histories} come with a history and "
                f"{sorted(checked.keys() - set(histories))} without: expected all or none"
            )
        self._frames.extend(
            {key: value[k] for key, value in checked.items()} for k in range(self._n_obs_steps)
        )
        return checked

    def unknown(self, obs: Mapping[str, Any]) -> list[str]:
        """Return names that no policy here reads and no client of openpi's sends to all."""
        return _shown(obs.keys() - self._shapes.keys() - IGNORED_KEYS)

    def _with_task(self, obs: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
        """Return observations with the task one-hot, and whether it came by name or number."""
        given = obs.get(TASK_KEY, obs.get(PROMPT, self._task)) if self._spec.tasks else None
        if isinstance(given, np.ndarray) and given.ndim == 0:
            given = given.item()
        if not isinstance(given, (str, int, np.integer)):
            return obs, False
        return {**obs, TASK_KEY: one_hot(self._spec.tasks, given)}, True

    def _check_keys(self, obs: Mapping[str, Any]) -> None:
        unknown = obs.keys() - self._shapes.keys() - IGNORED_KEYS
        if not self._strict:
            unknown = {name for name in unknown if name.startswith(_INSTRUCTION)}
        for what, names in (("missing", self._shapes.keys() - obs.keys()), ("unknown", unknown)):
            if names:
                expected = ", ".join(
                    f"{key} {self._spec.numbers(key)} {shape}"
                    for key, shape in sorted(self._shapes.items())
                )
                advice = ""
                if TASK_KEY in names and what == "missing":
                    tasks = ", ".join(self._spec.tasks[:5])
                    advice = (
                        f": send the name of the task ({tasks:.200}) as '{TASK_KEY}' or "
                        f"'{PROMPT}', or serve with --task"
                    )
                raise InputError(
                    f"observations {_shown(names)} are {what}: found "
                    f"{_described(obs) or 'nothing'}; expected {expected}{advice}"
                )


def arranged(
    key: str,
    value: Any,
    shape: tuple[int, ...],
    *,
    n_obs_steps: int,
    is_depth: bool = False,
) -> np.ndarray:
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
        is_depth: whether it is distances, which are left in their units.

    Raises:
        InputError: it is no array of numbers, has another shape, or is an image of floats outside
            [0, 1].
    """
    array = as_numbers(key, value)
    # The shape comes first: what is done to an array that fits is bounded by what the policy wants.
    if array.shape not in (shape, (n_obs_steps, *shape)):
        for leading in ((), (n_obs_steps,)):
            fitting = _rearranged(array, leading, shape)
            if fitting is not None:
                array = fitting
                break
        else:
            raise _wrong_shape(key, array.shape, shape, n_obs_steps)
    if is_image(shape) and array.dtype.kind == "f" and not is_depth:
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
            return rearrange(array, "... c h w -> ... h w c")
        if channels == 1 and array.shape == (*leading, height, width):
            return array.reshape(expected)
    elif (shape == (1,) and array.shape == leading) or (
        shape == () and array.shape == (*leading, 1)
    ):
        return array.reshape(expected)
    return None


def _uint8_image(key: str, image: np.ndarray) -> np.ndarray:
    require_finite(key, image)
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if low < 0 or high > 1:
        raise InputError(
            f"observation '{key}' is an image of {image.dtype} from {low:g} to {high:g}, expected "
            "uint8 of 0 to 255, or floats in [0, 1]"
        )
    return (255 * image).astype(np.uint8)


def _wrong_shape(
    key: str, found: Sequence[int], shape: tuple[int, ...], n_obs_steps: int
) -> InputError:
    return InputError(
        f"observation '{key}' has shape {tuple(found)}, expected {shape}, or "
        f"{(n_obs_steps, *shape)} with its history"
        + image_advice(found[1:] if len(found) > len(shape) else found, shape)
    )


def _described(obs: Mapping[str, Any]) -> str:
    """Return what was sent, as ``name dtype shape`` each."""
    return ", ".join(
        f"{str(key)[:60]} "
        + (
            f"{obs[key].dtype} {obs[key].shape}"
            if isinstance(obs[key], (np.ndarray, np.generic))
            else type(obs[key]).__name__
        )
        for key in sorted(obs)[:_MAXIMUM_NAMES]
    )


def _shown(names: Any) -> list[str]:
    """Return some of the names, cut short: whoever sent them chose their length and number."""
    return sorted(str(name)[:60] for name in names)[:_MAXIMUM_NAMES]
