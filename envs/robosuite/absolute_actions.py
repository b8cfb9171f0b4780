"""Absolute actions of robosuite's arms: where the gripper shall be, instead of how it shall move.

An action holds, for each arm, the goal of the grip site in the world: position (3, metres),
rotation (6, see `lfm_envs.robosuite.rotations`) and the gripper's own action (1): 10 numbers, 20
for Transport.

robosuite's OSC_POSE makes a goal of a delta at the first of the simulator's steps of an action::

    position = position of the grip site + F d          d: first 3 numbers, clipped and scaled
    rotation = F R(w) F^T rotation of the grip site     w: next 3, axis-angle, clipped and scaled

where F is the rotation of the arm's base where ``input_ref_frame`` is ``base`` (robosuite 1.5's
default) and the identity where it is ``world`` (and before 1.5). So a goal follows from a recorded
delta and the pose at that moment. robosuite observes that pose, except that ``robotN_eef_quat`` is
the rotation of the hand and not of the grip site: `HAND_TO_SITE` is what lies between.

Goals that are computed from what was observed of the very state lead to the same trajectory: within
1e-5 m and 1e-5 rad over 50 steps of near full speed in Lift and Transport. Two things make them
differ:

- The first action after a recorded state has been set. robosuite's controllers then still hold the
  pose that the arm was built in, without the random offset of the episode, and add the delta to
  that. The goal here is the one that the delta means. In Lift the trajectories were up to 1 cm
  apart and within 1 mm again after half a second.
- Observations as robosuite itself gives them while it runs are one simulator step (2 ms) old. Goals
  and trajectory are then wrong by what the arm moves meanwhile: at most 1.4 mm and 0.24 degrees.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..errors import EnvArgsError
from .rotations import ROT6D, rot6d_to_rotvec, rotvec_to_rot6d

CONTROLLER_DIM = 7
"""What OSC_POSE and a gripper take for one arm: position 3, axis-angle 3, gripper 1."""

ABSOLUTE_DIM = 3 + ROT6D + 1
"""An absolute action of one arm: position 3, rotation 6, gripper 1."""

HAND_TO_SITE = (0.0, 0.0, -(0.5**0.5), 0.5**0.5)
"""Rotation of the grip site of Panda's gripper in the frame of its hand, (x, y, z, w)."""

_CONTROLLER = "OSC_POSE"
_FRAMES = ("world", "base")


def rotation_elements(n_arms: int) -> tuple[int, ...]:
    """Return which elements of an absolute action are rotations: 3 to 8 of every arm."""
    return tuple(
        arm * ABSOLUTE_DIM + element for arm in range(n_arms) for element in range(3, 3 + ROT6D)
    )


def to_controller(action: np.ndarray) -> np.ndarray:
    """Return what an OSC_POSE controller of an environment with `absolute_env_kwargs` takes.

    Args:
        action: (..., 10 * n_arms).

    Returns:
        (..., 7 * n_arms) float64: position, axis-angle and gripper of every arm.

    Raises:
        ValueError: another shape, or a rotation that is none.
    """
    arms = _arms(action, ABSOLUTE_DIM)
    rotvec = rot6d_to_rotvec(arms[..., 3:9])
    return _joined(np.concatenate([arms[..., :3], rotvec, arms[..., 9:]], axis=-1))


def from_controller(action: np.ndarray) -> np.ndarray:
    """Return absolute actions (..., 10 * n_arms) of positions and axis-angles (..., 7 * n_arms).

    Raises:
        ValueError: another shape.
    """
    arms = _arms(action, CONTROLLER_DIM)
    rot6d = rotvec_to_rot6d(arms[..., 3:6])
    return _joined(np.concatenate([arms[..., :3], rot6d, arms[..., 6:]], axis=-1))


def absolute_env_kwargs(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a robosuite 1.5 environment whose arms take goals in the world.

    Args:
        env_kwargs: of an environment whose arms take deltas or goals; ``controller_configs`` is
            ``{"type": ..., "body_parts": {"right": ...}}``, or a list of one per robot. They are
            not changed.

    Raises:
        EnvArgsError: an arm has another controller than OSC_POSE.
    """
    changed = copy.deepcopy(dict(env_kwargs))
    for config in controllers_of(changed):
        try:
            if config is None:
                raise ValueError("there is none")
            for arm in _arm_configs(config):
                _check_type(arm)
                arm.update(input_type="absolute", input_ref_frame="world")
        except ValueError as error:
            raise EnvArgsError(
                f"env_args have a controller that cannot take absolute actions: {error}"
            ) from None
    return changed


def controllers_of(env_kwargs: Mapping[str, Any]) -> list[Any]:
    """Return ``controller_configs`` as a list: one for all robots, or one per robot."""
    configs = env_kwargs.get("controller_configs")
    return list(configs) if isinstance(configs, (list, tuple)) else [configs]


@dataclass(frozen=True)
class PoseController:
    """What an OSC_POSE controller makes of an action.

    Attributes:
        absolute: whether it takes goals; deltas otherwise.
        frame: ``world`` or ``base``, in which goals and deltas are given.
        input_min: (6,) and the others: deltas are clipped to ``input_min`` and ``input_max`` and
            scaled to ``output_min`` and ``output_max``, metres and radians.
    """

    absolute: bool
    frame: str
    input_min: np.ndarray
    input_max: np.ndarray
    output_min: np.ndarray
    output_max: np.ndarray

    @classmethod
    def from_config(cls, config: Any) -> PoseController:
        """Read the controller of one robot.

        Args:
            config: as in ``env_kwargs["controller_configs"]``: of robosuite 1.5 (nested by parts
                of the body), of those before (flat), or None for robosuite 1.5's default.

        Raises:
            ValueError: it is not OSC_POSE of one arm, or its numbers are none.
        """
        if not isinstance(config, Mapping | None):
            raise ValueError(f"it is {config!r:.100}; expected an object")
        nested = config is None or "body_parts" in config
        arm: Mapping[str, Any] = {"type": _CONTROLLER}
        if config is not None:
            arms = _arm_configs(config) if nested else [dict(config)]
            if len(arms) != 1:
                raise ValueError(f"it has {len(arms)} arms; expected one arm per robot")
            arm = arms[0]
        _check_type(arm)
        absolute = arm.get("input_type") == "absolute" or arm.get("control_delta") is False
        frame = arm.get("input_ref_frame", "base") if nested else "world"
        if frame not in _FRAMES:
            raise ValueError(f"input_ref_frame is {frame!r}; expected world or base")
        return cls(
            absolute=absolute,
            frame=frame,
            input_min=_six(arm, "input_min", -1.0),
            input_max=_six(arm, "input_max", 1.0),
            output_min=_six(arm, "output_min", [-0.05] * 3 + [-0.5] * 3),
            output_max=_six(arm, "output_max", [0.05] * 3 + [0.5] * 3),
        )

    def goals(
        self,
        action: np.ndarray,
        position: np.ndarray,
        rotation: Rotation,
        base_position: np.ndarray,
        base_rotation: Rotation,
    ) -> np.ndarray:
        """Return the absolute actions of one arm, which lead where ``action`` led.

        Args:
            action: (T, 7) what the controller was given.
            position: (T, 3) of the grip site in the world when it was.
            rotation: T rotations of the grip site in the world.
            base_position: (3,) of the arm's base, used where ``frame`` is ``base``.
            base_rotation: of the arm's base, used likewise.

        Returns:
            (T, 10) float64.
        """
        action = np.asarray(action, dtype=np.float64)
        in_world = self.frame == "world"
        frame = Rotation.identity() if in_world else base_rotation
        if self.absolute:
            origin = np.zeros(3) if in_world else base_position
            goal = origin + frame.apply(action[:, :3])
            turned = frame * Rotation.from_rotvec(action[:, 3:6])
        else:
            delta = self._scaled(action[:, :6])
            goal = position + frame.apply(delta[:, :3])
            turned = frame * Rotation.from_rotvec(delta[:, 3:]) * frame.inv() * rotation
        return from_controller(np.concatenate([goal, turned.as_rotvec(), action[:, 6:]], axis=1))

    def _scaled(self, delta: np.ndarray) -> np.ndarray:
        share = (np.clip(delta, self.input_min, self.input_max) - self.input_min) / (
            self.input_max - self.input_min
        )
        return self.output_min + share * (self.output_max - self.output_min)


def _arm_configs(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    parts = config.get("body_parts")
    if not isinstance(parts, Mapping):
        raise ValueError("it has no body_parts; expected a composite controller of robosuite 1.5")
    parts = {**parts, **parts.get("arms", {})}
    arms = [parts[name] for name in ("right", "left") if name in parts]
    if not arms or not all(isinstance(arm, dict) for arm in arms):
        raise ValueError("its body_parts have no arm 'right' or 'left'")
    return arms


def _check_type(arm: Mapping[str, Any]) -> None:
    if arm.get("type") != _CONTROLLER:
        raise ValueError(f"its type is {arm.get('type')!r}; expected {_CONTROLLER}")
    if arm.get("impedance_mode", "fixed") != "fixed":
        raise ValueError(f"its impedance_mode is {arm['impedance_mode']!r}; expected fixed")


def _six(arm: Mapping[str, Any], key: str, default: Any) -> np.ndarray:
    try:
        values = np.broadcast_to(np.asarray(arm.get(key, default), dtype=np.float64), (6,))
    except (TypeError, ValueError):
        raise ValueError(f"its {key} is {arm.get(key)!r:.100}; expected 1 or 6 numbers") from None
    return values.copy()


def _arms(action: np.ndarray, dim: int) -> np.ndarray:
    action = np.asarray(action, dtype=np.float64)
    if not action.ndim or not action.shape[-1] or action.shape[-1] % dim:
        raise ValueError(f"actions have shape {action.shape}; expected (..., {dim} per arm)")
    return action.reshape(*action.shape[:-1], -1, dim)


def _joined(arms: np.ndarray) -> np.ndarray:
    return arms.reshape(*arms.shape[:-2], -1)
