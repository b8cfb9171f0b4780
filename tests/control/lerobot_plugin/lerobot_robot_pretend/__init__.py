"""A plugin of LeRobot: a robot without hardware, for its own registry to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
from lerobot.motors import Motor, MotorNormMode
from lerobot.robots import Robot, RobotConfig


@RobotConfig.register_subclass("pretend")
@dataclass
class PretendConfig(RobotConfig):
    port: str
    degrees: bool = True
    frames: list[str] = field(default_factory=list)
    more: int = 0
    gripper: bool = True


class Pretend(Robot):
    """Two joints and a gripper that go where they are told, cameras of 6 x 8, and more numbers."""

    config_class, name = PretendConfig, "pretend"
    made: ClassVar[list[Pretend]] = []

    def __init__(self, config):
        super().__init__(config)
        self.made.append(self)
        self.config = config
        body = MotorNormMode.DEGREES if config.degrees else MotorNormMode.RANGE_M100_100
        modes = {"pan": body, "lift": body, "gripper": MotorNormMode.RANGE_0_100}
        motors = {
            name: Motor(number, "pretend", mode)
            for number, (name, mode) in enumerate(modes.items())
        }
        self.bus = SimpleNamespace(motors=motors)
        self.camera = SimpleNamespace(is_connected=False, disconnect=self._close_camera)
        self.at = {"pan.pos": 1.0, "lift.pos": 2.0}
        if config.gripper:
            self.at["gripper.pos"] = 50.0
        self.connected, self.calibrated = False, True
        self.calls = []
        self.before = lambda call: None

    def _called(self, call):
        self.calls.append(call)
        self.before(call)

    def _close_camera(self):
        self.camera.is_connected = False

    @property
    def observation_features(self):
        more = {f"more_{number}": float for number in range(self.config.more)}
        cameras = dict.fromkeys(self.config.frames, (6, 8, 3))
        return {**dict.fromkeys(self.at, float), **more, **cameras}

    @property
    def action_features(self):
        return dict.fromkeys(self.at, float)

    @property
    def is_connected(self):
        return self.connected

    def connect(self, calibrate=True):
        assert not calibrate, "nobody is there to calibrate it"
        self.camera.is_connected = True
        self._called("connect")
        self.connected = True

    @property
    def is_calibrated(self):
        return self.calibrated

    def calibrate(self): ...

    def configure(self): ...

    def get_observation(self):
        self._called("observe")
        more = {f"more_{number}": float(number) for number in range(self.config.more)}
        frames = {name: np.zeros((6, 8, 3), np.uint8) for name in self.config.frames}
        return {**self.at, **more, **frames}

    def send_action(self, action):
        self._called(tuple(action.values()))
        self.at.update(action)
        return action

    def disconnect(self):
        self._called("disconnect")
        self.connected = False
