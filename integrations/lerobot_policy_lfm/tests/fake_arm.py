"""An arm of two joints and a camera that LeRobot's own registry creates, and nothing moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from lerobot.robots import Robot, RobotConfig


@RobotConfig.register_subclass("fake_arm")
@dataclass(kw_only=True)
class FakeArmConfig(RobotConfig):
    """Nothing to say."""


class FakeArm(Robot):
    """Goes where it is sent, at once."""

    config_class = FakeArmConfig
    name = "fake_arm"
    sent: ClassVar[list[tuple[float, float]]] = []

    def __init__(self, config: FakeArmConfig) -> None:
        super().__init__(config)
        self._at = (0.1, -0.2)
        self._connected = False

    @property
    def observation_features(self) -> dict[str, Any]:
        """Two joints and a camera."""
        return {"a.pos": float, "b.pos": float, "top": (20, 18, 3)}

    @property
    def action_features(self) -> dict[str, Any]:
        """Two joints."""
        return {"a.pos": float, "b.pos": float}

    @property
    def is_connected(self) -> bool:
        """Whether it is there."""
        return self._connected

    @property
    def is_calibrated(self) -> bool:
        """It needs none."""
        return True

    def connect(self, calibrate: bool = True) -> None:
        """Be there."""
        self._connected = True

    def calibrate(self) -> None:
        """Nothing to do."""

    def configure(self) -> None:
        """Nothing to do."""

    def get_observation(self) -> dict[str, Any]:
        """Where it is, and a grey picture."""
        picture = np.full((20, 18, 3), 120, np.uint8)
        return {"a.pos": self._at[0], "b.pos": self._at[1], "top": picture}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Go there."""
        self._at = (float(action["a.pos"]), float(action["b.pos"]))
        FakeArm.sent.append(self._at)
        return action

    def disconnect(self) -> None:
        """Be gone."""
        self._connected = False
