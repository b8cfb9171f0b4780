"""Which of a robot's features is which observation of a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lfm_policy.errors import OptionError
from lfm_runtime.policy.spec import DataSpec, is_image
from lfm_runtime.registry import nearest_names

JOINTS = "joints"
"""What a file calls the vector of all joints."""

Sources = dict[str, str | tuple[str, ...]]
"""Observation of a policy -> a camera, or the numbers of a vector."""


def observation_sources(
    spec: DataSpec,
    features: Mapping[str, Any],
    joints: Sequence[str],
    given: Mapping[str, Any],
) -> Sources:
    """Return what each observation of a policy is made of.

    Those that are not given are found by their names: a camera's, or ``state`` for the joints;
    with LeRobot's ``observation.`` or ``observation.images.`` before it, or without.

    Args:
        spec: of the policy.
        features: what the robot observes: shapes of cameras, types of numbers, by name.
        joints: in the order of the policy's actions.
        given: what the file says.

    Raises:
        OptionError: a name is not there, or its shape is another; the key is that in the file.
    """
    if spec.action_dim != len(joints):
        raise OptionError(
            JOINTS,
            f"has {len(joints)} entries ({', '.join(joints)}), but the policy's actions have "
            f"{spec.action_dim} numbers",
        )
    sees = ", ".join(f"{key} {tuple(shape)}" for key, shape in spec.obs_shapes.items())
    for key in given:
        if key not in spec.obs_shapes:
            hint = nearest_names(key, list(spec.obs_shapes))
            raise OptionError(
                ("observations", key), f": the policy sees nothing of this name: {hint} ({sees})"
            )
    cameras = {key: tuple(kind) for key, kind in features.items() if isinstance(kind, tuple)}
    numbers = [key for key in features if key not in cameras]
    sources: Sources = {}
    for key, shape in spec.obs_shapes.items():
        source = given.get(key)
        name = key.removeprefix("observation.").removeprefix("images.")
        if is_image(shape):
            sources[key] = _camera(key, shape, name if source is None else source, cameras)
        else:
            default = JOINTS if name == "state" else None
            found = default if source is None else source
            sources[key] = _vector(key, shape, found, numbers, joints)
    return sources


def _camera(
    key: str, shape: Sequence[int], source: Any, cameras: Mapping[str, tuple[int, ...]]
) -> str:
    there = ", ".join(f"{name} {size}" for name, size in cameras.items()) or "none"
    if not isinstance(source, str) or source not in cameras:
        raise OptionError(
            ("observations", key),
            f": the policy sees this camera, {tuple(shape)}, and the robot has no camera "
            f"'{source}': it has {there}; write under observations the line `{key}: NAME`, or add "
            "it under robot.cameras",
        )
    if cameras[source] != tuple(shape):
        raise OptionError(
            ("observations", key),
            f": the robot's camera '{source}' gives {cameras[source]} and the policy was trained "
            f"on {tuple(shape)} (height, width, channels): write under robot.cameras.{source} "
            f"`height: {shape[0]}` and `width: {shape[1]}` if it has this mode, or train on frames "
            "of its size",
        )
    return source


def _vector(
    key: str,
    shape: Sequence[int],
    source: Any,
    numbers: Sequence[str],
    joints: Sequence[str],
) -> tuple[str, ...]:
    there = ", ".join(numbers) or "none"
    names = list(joints) if source == JOINTS else source
    if not isinstance(names, list):
        raise OptionError(
            ("observations", key),
            f": nothing says which numbers of the robot are this vector, {tuple(shape)}, of the "
            f"policy; write under observations the line `{key}: joints`, or `{key}: [NAME, NAME, "
            f"...]` with numbers of it: {there}",
        )
    if unknown := [str(name) for name in names if name not in numbers]:
        raise OptionError(
            ("observations", key),
            f": the robot observes no {', '.join(unknown)}; its numbers are {there}",
        )
    if tuple(shape) != (len(names),):
        raise OptionError(
            ("observations", key),
            f": has {len(names)} numbers ({', '.join(names)}), but the policy was trained on "
            f"{tuple(shape)}; write under observations the line `{key}: [NAME, NAME, ...]` in the "
            f"order of the demonstrations; the robot's numbers are {there}",
        )
    return tuple(names)
