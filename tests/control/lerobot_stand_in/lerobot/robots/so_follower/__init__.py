"""Stands for an SO-101: its joints go where they are told, its cameras see noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from lerobot.cameras import CameraConfig
from lerobot.motors import Motor, MotorNormMode
from lerobot.robots import Robot, RobotConfig
from lerobot.utils.errors import DeviceNotConnectedError

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


@RobotConfig.register_subclass("so101_follower")
@dataclass
class SO101FollowerConfig(RobotConfig):
    port: str
    disable_torque_on_disconnect: bool = True
    max_relative_target: float | dict[str, float] | None = None
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    use_degrees: bool = True


class SO101Follower(Robot):
    config_class, name = SO101FollowerConfig, "so_follower"
    is_connected, is_calibrated = False, True

    def __init__(self, config):
        super().__init__(config)
        self.config = config
        body = MotorNormMode.DEGREES if config.use_degrees else MotorNormMode.RANGE_M100_100
        modes = [body] * 5 + [MotorNormMode.RANGE_0_100]
        motors = {
            name: Motor(number, "sts3215", mode)
            for number, (name, mode) in enumerate(zip(JOINTS, modes, strict=True), 1)
        }
        self.bus = SimpleNamespace(motors=motors)
        self.at = {f"{name}.pos": 0.0 for name in JOINTS}

    @property
    def observation_features(self):
        cameras = self.config.cameras.items()
        return self.action_features | {name: (c.height, c.width, 3) for name, c in cameras}

    @property
    def action_features(self):
        return dict.fromkeys(self.at, float)

    def connect(self, calibrate=True):
        self.is_connected = True

    def calibrate(self): ...

    def configure(self): ...

    def get_observation(self):
        if not self.is_connected:
            raise DeviceNotConnectedError("SO101Follower is not connected.")
        noise = np.random.default_rng()
        frames = {
            name: noise.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for name, camera in self.config.cameras.items()
        }
        return {**self.at, **frames}

    def send_action(self, action):
        self.at.update(action)
        return action

    def disconnect(self):
        self.is_connected = False
