"""Absolute actions of robomimic files: goals in the world, converted once when a file is loaded.

What the actions of a file mean, its ``env_args`` say; where the arms were, its observations do. See
`lfm_envs.robosuite.absolute_actions` for the numbers, and for how exactly they lead where the
deltas led.
"""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from lfm_envs.robosuite.absolute_actions import PoseController

    from lfm_policy.data.robomimic.file import RobomimicFile

STORED_ABSOLUTE = "actions_abs"
"""What robomimic and Diffusion Policy call goals: position 3, axis-angle 3, gripper 1 per arm."""

_FARTHEST, _MOST_TURNED = 0.5, 1.0
"""Metres and radians from the grip site where goals, taken together, are still believed: the frame
of a base is farther away from the world's, and that of the hand is turned by a quarter."""


@dataclass(frozen=True)
class Poses:
    """What the observations of a file say of one arm.

    Attributes:
        position: (T, 3) of the grip site in the world, metres.
        quat: (T, 4) rotation, (x, y, z, w).
        of_site: whether ``quat`` is that of the grip site; else it is that of the hand.
    """

    position: np.ndarray
    quat: np.ndarray
    of_site: bool


def read_absolute_actions(
    file: RobomimicFile,
    demos: Sequence[str],
    lengths: Sequence[int],
    action: np.ndarray,
    action_key: str,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Convert the actions of a file, with the observations in it.

    Args:
        file: the open file.
        demos: whose actions, in this order.
        lengths: number of steps of every demo.
        action: (T, 7 * n_arms) what the file calls ``action_key``, all demos end to end.
        action_key: their name; `STORED_ABSOLUTE` are goals.

    Returns:
        (T, 10 * n_arms) float64, and which elements are rotations.

    Raises:
        InputError: as `absolute_actions`, or the file lacks ``env_args`` or an arm's pose.
    """
    from lfm_envs.robosuite.absolute_actions import rotation_elements

    source = f"{file.path}: {action_key}"
    held = file.observation_keys(demos[0])
    poses = []
    for arm in range(_count_arms(action, source)):
        site = f"robot{arm}_eef_quat_site"
        of_site = site in held
        values = []
        for key, n in ((f"robot{arm}_eef_pos", 3), (site if of_site else site[:-5], 4)):
            name = f"obs/{key}"
            info = file.info(demos, name, lengths, ranks=(2,))
            if info.shape != (n,):
                raise InputError(
                    f"{file.path}: {name} has shape {info.shape} per step; expected ({n},)"
                )
            values.append(file.read(demos, name, lengths, info))
        if not (np.abs(np.linalg.norm(values[1], axis=1) - 1) < 1e-3).all():
            raise InputError(f"{file.path}: obs/{key} holds quaternions that are not of length 1")
        poses.append(Poses(values[0], values[1], of_site))
    converted = absolute_actions(
        action,
        poses,
        file.env_args(),
        lambda: [
            (n, file.text(demo, "model_file")) for demo, n in zip(demos, lengths, strict=True)
        ],
        stored_absolute=action_key == STORED_ABSOLUTE,
        source=source,
    )
    return converted, rotation_elements(len(poses))


def _count_arms(action: np.ndarray, source: str) -> int:
    from lfm_envs.robosuite.absolute_actions import ABSOLUTE_DIM, CONTROLLER_DIM

    dim = action.shape[-1]
    if action.ndim != 2 or dim % CONTROLLER_DIM:
        hint = (
            f" (with {dim} = {ABSOLUTE_DIM} per arm they may be absolute already: use "
            "action_space=stored)"
            if dim % ABSOLUTE_DIM == 0
            else ""
        )
        raise InputError(
            f"{source} have {dim} elements; absolute actions are made of {CONTROLLER_DIM} per arm: "
            f"position 3, axis-angle 3, gripper 1{hint}"
        )
    return int(dim // CONTROLLER_DIM)


def absolute_actions(
    action: np.ndarray,
    poses: Sequence[Poses],
    env_args: Mapping[str, Any],
    models: Callable[[], Sequence[tuple[int, str]]],
    *,
    stored_absolute: bool,
    source: str,
) -> np.ndarray:
    """Convert actions to goals in the world.

    Args:
        action: (T, 7 * n_arms) as stored.
        poses: of every arm.
        env_args: see `RobomimicFile.env_args`.
        models: gives of every demo its number of steps and its ``model_file``, empty without one;
            called where goals or deltas are in the frame of the arm's base.
        stored_absolute: whether they are goals already, whatever ``env_args`` say.
        source: file and array, for messages.

    Returns:
        (T, 10 * n_arms) float64.

    Raises:
        InputError: the controller is not OSC_POSE, the pose of a base is not known, or goals are
            far from the arm.

    Warns:
        UserWarning: what ``env_args`` call deltas are goals.
    """
    # here and not above: `lfm-policy --help` and a policy that only acts need no environments
    from lfm_envs.robosuite.absolute_actions import HAND_TO_SITE, PoseController, controllers_of

    n_arms = len(poses)
    kwargs = env_args["env_kwargs"]
    configs = controllers_of(kwargs)
    if len(configs) not in (1, n_arms):
        raise InputError(
            f"{source}: env_args have {len(configs)} controllers, expected 1 or one for each of "
            f"the {n_arms} arms"
        )
    robots = kwargs.get("robots", "Panda")
    robots = [robots] if isinstance(robots, str) else list(robots)
    parts = []
    for arm, pose in enumerate(poses):
        part = action[:, 7 * arm : 7 * arm + 7].astype(np.float64)
        try:
            controller = PoseController.from_config(configs[arm % len(configs)])
        except ValueError as error:
            raise InputError(
                f"{source}: the actions of robot{arm} cannot be made absolute, because of its "
                f"controller in env_args: {error}"
            ) from None
        absolute = stored_absolute or controller.absolute
        if not absolute and (beyond := _beyond(part, controller)):
            # Diffusion Policy writes goals in place of the deltas and leaves env_args as they were.
            warnings.warn(
                f"{source}: {beyond}, but env_args describe deltas: the actions of robot{arm} are "
                "taken for goals (position, axis-angle)",
                stacklevel=2,
            )
            absolute = True
        controller = replace(controller, absolute=absolute)
        rotation = Rotation.from_quat(pose.quat)
        if not pose.of_site:
            if robots[arm % len(robots)] != "Panda":
                raise InputError(
                    f"{source}: robot{arm} is {robots[arm % len(robots)]!r:.60}, whose gripper's "
                    f"rotation on the hand is not known: expected Panda, or obs/robot{arm}"
                    "_eef_quat_site in the file"
                )
            rotation = rotation * Rotation.from_quat(HAND_TO_SITE)
        spans = [(len(part), np.zeros(3), Rotation.identity())]
        if controller.frame == "base":
            spans = [(n, *_base_pose(model, arm, source)) for n, model in models()]
        goals, begin = [], 0
        for length, base_position, base_rotation in spans:
            steps = slice(begin, begin + length)
            goals.append(
                controller.goals(
                    part[steps], pose.position[steps], rotation[steps], base_position, base_rotation
                )
            )
            begin += length
        parts.append(np.concatenate(goals))
        _check_near(parts[-1], pose.position, rotation, arm, source)
    return np.concatenate(parts, axis=1)


def _beyond(action: np.ndarray, controller: PoseController) -> str:
    """Say which delta the controller does not take; ``""`` if it takes all."""
    low, high = controller.input_min, controller.input_max
    beyond = (action[:, :6] < low - 1e-6) | (action[:, :6] > high + 1e-6)
    if not beyond.any():
        return ""
    row, element = np.argwhere(beyond)[0]
    limits = f"{low[element]:g} to {high[element]:g}"
    return f"element {element} is {action[row, element]:g} in row {row}, outside {limits}"


def _check_near(
    goals: np.ndarray, position: np.ndarray, rotation: Rotation, arm: int, source: str
) -> None:
    from lfm_envs.robosuite.absolute_actions import to_controller

    distance = np.median(np.linalg.norm(goals[:, :3] - position, axis=1))
    turned = Rotation.from_rotvec(to_controller(goals)[:, 3:6]) * rotation.inv()
    angle = np.median(turned.magnitude())
    if not (distance < _FARTHEST and angle < _MOST_TURNED):
        raise InputError(
            f"{source}: the goals of robot{arm} are {distance:.2f} m and {angle:.2f} rad from its "
            f"gripper (medians); expected less than {_FARTHEST:g} m and {_MOST_TURNED:g} rad: they "
            "are in another frame than env_args say, or no goals of position and axis-angle"
        )


def _base_pose(model: str, arm: int, source: str) -> tuple[np.ndarray, Rotation]:
    """Return where the base of an arm stands.

    Args:
        model: the ``model_file`` of a demo, empty where it has none.
        arm: number of the robot.
        source: for messages.

    Returns:
        Position (3,) in metres and rotation, in the world.

    Raises:
        InputError: there is no XML, it does not parse, or the base is not in it.
    """
    site = f"robot{arm}_right_center"
    if not model:
        raise InputError(
            f"{source}: the actions are in the frame of the arm's base (input_ref_frame in "
            "env_args), but a demo has no model_file that says where it stands"
        )
    try:
        root = ElementTree.fromstring(model)
        chain = _path_to(root, site)
        position, rotation = np.zeros(3), Rotation.identity()
        for element in chain:
            position = position + rotation.apply(_numbers(element, "pos", (0.0, 0.0, 0.0)))
            w, x, y, z = _numbers(element, "quat", (1.0, 0.0, 0.0, 0.0))
            rotation = rotation * Rotation.from_quat([x, y, z, w])
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(
            f"{source}: where the base of robot{arm} stands cannot be read from model_file: {error}"
        ) from None
    return position, rotation


def _path_to(root: ElementTree.Element, site: str) -> list[ElementTree.Element]:
    """Return the bodies from the world to a site, and the site."""
    # A list and no recursion: files from elsewhere may be nested without end.
    waiting = [(body, [body]) for body in root.findall("worldbody/*")]
    while waiting:
        element, path = waiting.pop()
        if element.tag == "site" and element.get("name") == site:
            return path
        if element.tag == "body":
            waiting += [(child, [*path, child]) for child in element]
    raise ValueError(f"there is no site '{site}'")


def _numbers(
    element: ElementTree.Element, key: str, default: tuple[float, ...]
) -> tuple[float, ...]:
    other = {"axisangle", "xyaxes", "zaxis", "euler"} & set(element.keys())
    if other:
        raise ValueError(f"{element.tag} has {', '.join(sorted(other))}; expected quat")
    values = tuple(float(text) for text in element.get(key, "").split()) or default
    if len(values) != len(default) or not np.isfinite(values).all():
        raise ValueError(f"{element.tag} has {key} '{element.get(key):.60}'")
    return values
