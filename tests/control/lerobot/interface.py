"""Prints, as JSON, what `lfm_policy.control.lerobot` uses of the LeRobot that is on the path."""

from __future__ import annotations

import inspect
import json
from typing import Any

import draccus
from lerobot.cameras import CameraConfig
from lerobot.motors import Motor, MotorNormMode
from lerobot.robots import Robot, RobotConfig
from lerobot.utils.errors import DeviceNotConnectedError

from lfm_policy.control.lerobot.registry import make_lerobot_robot, motor_units
from lfm_policy.errors import InputError

FRONT = {"type": "opencv", "index_or_path": 0, "width": 640, "height": 480, "fps": 30}
GIVEN: list[dict[str, Any]] = [
    {"port": "/dev/x", "id": "a", "use_degrees": True},
    {"port": "/dev/x", "use_degrees": False, "max_relative_target": 5},
    {
        "port": "/dev/x",
        "use_degrees": True,  # whose default has changed in 0.4.4
        "cameras": {"front": FRONT, "wrist": FRONT | {"index_or_path": "/dev/v"}},
    },
    {},
    {"port": "/dev/x", "prt": 1},
    {"port": "/dev/x", "use_degrees": "perhaps"},
    {"port": "/dev/x", "cameras": {"front": FRONT | {"type": "opencvv"}}},
    {"port": "/dev/x", "cameras": {"front": FRONT | {"widht": 3}}},
    {"port": "/dev/x", "cameras": {"front": FRONT | {"width": None}}},
]


def made(given: dict[str, Any]) -> Any:
    """Return what becomes of a configuration of the SO-101."""
    try:
        robot = make_lerobot_robot("so101_follower", given, "robot.yaml")
    except InputError as error:
        return str(error).partition("refuses this: ")[2].partition(":")[0]
    try:
        robot.get_observation()
        unconnected = "nothing"
    except DeviceNotConnectedError as error:
        unconnected = f"ConnectionError: {isinstance(error, ConnectionError)}"
    return {
        "observes": {
            key: getattr(k, "__name__", k) for key, k in robot.observation_features.items()
        },
        "takes": [(key, kind.__name__) for key, kind in robot.action_features.items()],
        "units": motor_units(robot),
        "connected": robot.is_connected,
        "id": robot.id,
        "unconnected": unconnected,
        "limit": str(robot.config.max_relative_target),
        "cameras": {key: str(camera.type) for key, camera in robot.config.cameras.items()},
    }


choices = ("register_subclass", "get_known_choices", "get_choice_class", "get_choice_name")
print(
    json.dumps(
        {
            "abstract": sorted(Robot.__abstractmethods__),
            "connect": str(inspect.signature(Robot.connect).parameters["calibrate"].default),
            "choices": [
                all(hasattr(c, name) for name in choices) for c in (RobotConfig, CameraConfig)
            ],
            "config": sorted(RobotConfig.__dataclass_fields__),
            "camera": sorted(CameraConfig.__dataclass_fields__),
            "units": [mode.value for mode in MotorNormMode],
            "motor": [name for name in Motor.__dataclass_fields__][:3],
            "decode": list(inspect.signature(draccus.decode).parameters)[:2],
            "made": [made(given) for given in GIVEN],
        }
    )
)
