"""Stands for `lerobot.robots`."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path

import draccus

from lerobot.utils.import_utils import make_device_from_device_class


@dataclass(kw_only=True)
class RobotConfig(draccus.ChoiceRegistry, abc.ABC):
    id: str | None = None
    calibration_dir: Path | None = None

    def __post_init__(self):
        for camera in getattr(self, "cameras", {}).values():
            for name in ("width", "height", "fps"):
                if getattr(camera, name) is None:
                    raise ValueError(f"Specifying '{name}' is required for the camera")

    @property
    def type(self):
        return self.get_choice_name(self.__class__)


class Robot(abc.ABC):
    def __init__(self, config):
        self.robot_type, self.id = self.name, config.id

    def __str__(self):
        return f"{self.id} {self.__class__.__name__}"

    @property
    @abc.abstractmethod
    def observation_features(self): ...

    @property
    @abc.abstractmethod
    def action_features(self): ...

    @property
    @abc.abstractmethod
    def is_connected(self): ...

    @abc.abstractmethod
    def connect(self, calibrate=True): ...

    @property
    @abc.abstractmethod
    def is_calibrated(self): ...

    @abc.abstractmethod
    def calibrate(self): ...

    @abc.abstractmethod
    def configure(self): ...

    @abc.abstractmethod
    def get_observation(self): ...

    @abc.abstractmethod
    def send_action(self, action): ...

    @abc.abstractmethod
    def disconnect(self): ...


def make_robot_from_config(config):
    if config.type == "so101_follower":
        from lerobot.robots.so_follower import SO101Follower

        return SO101Follower(config)
    try:
        return make_device_from_device_class(config)
    except Exception as error:
        raise ValueError(f"Error creating robot with config {config}: {error}") from error
