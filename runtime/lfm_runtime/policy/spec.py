"""What a policy knows of its data: names and shapes of observations, size of an action."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lfm_runtime.errors import InputError

MAXIMUM_KEYS = 64
MAXIMUM_RANK = 4
MAXIMUM_SIZE = 10_000_000
MAXIMUM_TASKS = 4096

TASK_KEY = "task"
"""The observation that says which of several tasks is to be done, one-hot."""


def is_image(shape: Sequence[int]) -> bool:
    """Whether one step of this shape is a camera image: height, width and 1, 3 or 4 channels.

    Camera images are uint8 wherever they are; everything else is floating point.
    """
    return len(shape) == 3 and shape[2] in (1, 3, 4)


@dataclass(frozen=True)
class DataSpec:
    """Shapes that the networks were built for.

    Attributes:
        obs_shapes: shape of one frame of each observation, without batch and history.
        action_dim: numbers in one action.
        fingerprint: SHA-256 of the training demonstrations, empty when unknown.
        float64_keys: observations, or ``"action"``, so far from zero that float32 could not tell
            their values apart; everywhere outside the networks they are float64.
        depth: camera of depth -> the nearest and the farthest distance that are told apart, in
            the units of the data; what becomes of its images says `depth_levels`.
        tasks: names of the tasks that the observation ``task`` tells apart, in its order; empty:
            the policy is not told.
    """

    obs_shapes: Mapping[str, tuple[int, ...]]
    action_dim: int
    fingerprint: str = ""
    float64_keys: tuple[str, ...] = ()
    depth: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()

    def dtype(self, key: str) -> str:
        """Return in which numbers an observation, or ``"action"``, is exchanged.

        ``"uint8"`` for camera images, else ``"float32"``, or ``"float64"`` for `float64_keys`.
        """
        if key in self.float64_keys:
            return "float64"
        return "uint8" if is_image(self.obs_shapes.get(key, ())) else "float32"

    def numbers(self, key: str) -> str:
        """Return in words what numbers an observation, or ``"action"``, is made of."""
        if key in self.depth:
            near, far = self.depth[key]
            return f"depth from {near:g} to {far:g}"
        return self.dtype(key)

    def untold(self) -> DataSpec:
        """Return what has to be observed where somebody says the task."""
        shapes = {key: shape for key, shape in self.obs_shapes.items() if key != TASK_KEY}
        return replace(self, obs_shapes=shapes, tasks=()) if self.tasks else self

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {
            "obs_shapes": {key: list(shape) for key, shape in self.obs_shapes.items()},
            "action_dim": self.action_dim,
            "fingerprint": self.fingerprint,
        }
        if self.float64_keys:
            values["float64_keys"] = list(self.float64_keys)
        if self.depth:
            values["depth"] = {key: list(ends) for key, ends in self.depth.items()}
        if self.tasks:
            values["tasks"] = list(self.tasks)
        return values

    @staticmethod
    def from_dict(value: Any, label: str) -> DataSpec:
        """Read what `to_dict` wrote.

        Raises:
            InputError: a key is missing or is not what it has to be; ``label`` names the file.
        """
        if not isinstance(value, dict):
            raise InputError(f"{label}: data: expected an object, found {type(value).__name__}")

        def bad(key: str, expected: str, found: Any) -> InputError:
            return InputError(
                f"{label}: data.{key[:112]}: expected {expected}, found {str(found)[:100]}"
            )

        shapes: Any = value.get("obs_shapes")
        action_dim: Any = value.get("action_dim")
        if not isinstance(shapes, dict) or len(shapes) > MAXIMUM_KEYS:
            raise bad("obs_shapes", f"an object of at most {MAXIMUM_KEYS} observations", shapes)
        for key, shape in shapes.items():
            if not key or key == "action":
                raise InputError(
                    f"{label}: data.obs_shapes: '{key}' cannot be the name of an observation"
                )
            few = isinstance(shape, list) and len(shape) <= MAXIMUM_RANK
            if not few or not all(map(_is_size, shape)):
                raise bad(f"obs_shapes.{key}", "a list of positive sizes", shape)
        if not _is_size(action_dim):
            raise bad("action_dim", "a positive integer", action_dim)
        fingerprint, wide = value.get("fingerprint", ""), value.get("float64_keys", [])
        if not isinstance(fingerprint, str):
            raise bad("fingerprint", "text", fingerprint)
        known = {"action", *(key for key, shape in shapes.items() if not is_image(shape))}
        if not isinstance(wide, list) or not all(isinstance(k, str) and k in known for k in wide):
            raise bad("float64_keys", "names of observations that are no images", wide)
        checked = {key: tuple(shape) for key, shape in shapes.items()}
        depth: Any = value.get("depth", {})
        if not isinstance(depth, dict):
            raise bad("depth", "an object", depth)
        for key, ends in depth.items():
            if checked.get(key, ())[2:] != (1,):
                raise bad("depth", "names of images of one channel", key)
            if not is_range(ends):
                raise bad(f"depth.{key}", "two increasing numbers of at least 0", ends)
        ranges = {key: (float(near), float(far)) for key, (near, far) in depth.items()}
        tasks: Any = value.get("tasks", [])
        if not _are_tasks(tasks) or (tasks and checked.get(TASK_KEY) != (len(tasks),)):
            raise bad("tasks", f"different names, as many as '{TASK_KEY}' has numbers", tasks)
        return DataSpec(checked, action_dim, fingerprint, tuple(wide), ranges, tuple(tasks))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAXIMUM_SIZE


def _are_tasks(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAXIMUM_TASKS
        and all(isinstance(task, str) and task for task in value)
        and len(set(value)) == len(value)
    )


def is_range(value: Any) -> bool:
    """Whether plain JSON is the nearest and the farthest distance of a camera of depth."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in value)
        and all(math.isfinite(end) for end in value)
        and 0 <= value[0] < value[1]
    )
