"""The robosuite tasks that have an id, and the description (``env_args``) of each.

The description is robomimic's: ``env_name``, ``env_version``, ``type`` (1 for robosuite) and
``env_kwargs``, the arguments of the simulator. No simulator is imported here.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Final

ROBOSUITE_TYPE: Final = 1
"""robomimic's number for environments of robosuite."""

VERSION: Final = "1.5.1"
"""Version of robosuite that descriptions are written for; see :mod:`lfm_envs.robosuite.args`."""

CONTROL_FREQUENCY: Final = 20
"""Actions per second."""

# As robomimic's files for robosuite 1.5: deltas of position and axis-angle in the world's axes.
# robosuite's own default are those of the robot's base, which for two opposed arms differ.
_ARM: Final[dict[str, Any]] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "input_type": "delta",
    "input_ref_frame": "world",
    "interpolation": None,
    "ramp_ratio": 0.2,
    "gripper": {"type": "GRIP"},
}


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        env_name: what robosuite calls it.
        cameras: whose images robomimic's policies see.
        view: camera of what people look at.
        max_episode_steps: steps until an episode is truncated.
        robots: names of robosuite.
        extra: further arguments of the simulator.
    """

    env_name: str
    cameras: tuple[str, ...] = ("agentview", "robot0_eye_in_hand")
    view: str = "agentview"
    max_episode_steps: int = 400
    robots: tuple[str, ...] = ("Panda",)
    extra: dict[str, Any] = field(default_factory=dict)


TASKS: Final[dict[str, Task]] = {
    "Lift": Task("Lift"),
    "Can": Task("PickPlaceCan"),
    "Square": Task("NutAssemblySquare"),
    "ToolHang": Task(
        "ToolHang",
        cameras=("sideview", "robot0_eye_in_hand"),
        view="sideview",
        max_episode_steps=700,
    ),
    "Transport": Task(
        "TwoArmTransport",
        cameras=(
            "shouldercamera0",
            "robot0_eye_in_hand",
            "shouldercamera1",
            "robot1_eye_in_hand",
        ),
        max_episode_steps=700,
        robots=("Panda", "Panda"),
        extra={"env_configuration": "opposed"},
    ),
}
"""By the name in their ids: ``lfm/Lift-v0`` and so on."""


def task_of(env_name: str) -> str | None:
    """Return the name in :data:`TASKS` of what robosuite calls ``env_name``; None: not there."""
    return next((name for name, task in TASKS.items() if task.env_name == env_name), None)


def default_env_args(task: str) -> dict[str, Any]:
    """Return the description of a task: state observations, delta actions, sparse reward.

    Raises:
        KeyError: there is no such task.
    """
    chosen = TASKS[task]
    return {
        "env_name": chosen.env_name,
        "env_version": VERSION,
        "type": ROBOSUITE_TYPE,
        "env_kwargs": {
            "has_renderer": False,
            "has_offscreen_renderer": False,
            "ignore_done": True,
            "use_object_obs": True,
            "use_camera_obs": False,
            "camera_depths": False,
            "control_freq": CONTROL_FREQUENCY,
            "controller_configs": {"type": "BASIC", "body_parts": {"right": copy.deepcopy(_ARM)}},
            "robots": list(chosen.robots),
            "lite_physics": True,
            "reward_shaping": False,
            **copy.deepcopy(chosen.extra),
        },
    }
