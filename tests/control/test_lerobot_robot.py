"""The adapter to LeRobot's robots, on a robot with the same methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfm_policy.control import LeRobotRobot
from lfm_policy.errors import InputError
from lfm_runtime.control import ControlLoop, ControlOptions, SimulatedClock, SimulatedInference
from lfm_runtime.policy.spec import DataSpec

from .conftest import Sampled

JOINTS = ("shoulder_pan.pos", "elbow_flex.pos", "gripper.pos")


class Arm:
    """What `lerobot.robots.Robot` promises; joints go where they are told."""

    observation_features: dict[str, Any] = {**dict.fromkeys(JOINTS, float), "top": (4, 6, 3)}  # noqa: RUF012
    action_features: dict[str, Any] = dict.fromkeys(JOINTS, float)

    def __init__(self) -> None:
        self.is_connected = True
        self.joints = dict.fromkeys(JOINTS, 0.0)
        self.sent: list[dict[str, float]] = []
        self.fault: BaseException | None = None

    def get_observation(self) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        return {"top": np.zeros((4, 6, 3), np.uint8), **self.joints}

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        self.sent.append(dict(action))
        self.joints.update(action)
        return action

    def disconnect(self) -> None:
        self.is_connected = False


def test_observations_and_actions_are_translated() -> None:
    arm = Arm()
    robot = LeRobotRobot(arm, rename={"top": "image"})
    arm.joints["elbow_flex.pos"] = 2.0
    obs = robot.observe()
    assert obs is not None
    assert robot.obs_keys == ("state", "image")
    np.testing.assert_array_equal(obs["state"], [0, 2, 0])
    assert obs["image"].shape == (4, 6, 3)
    assert robot.action_dim == 3
    robot.act(np.array([1, 2, 3], dtype=np.float32))
    assert arm.sent == [{"shoulder_pan.pos": 1.0, "elbow_flex.pos": 2.0, "gripper.pos": 3.0}]


def test_a_robot_of_the_real_package() -> None:
    robots = pytest.importorskip("lerobot.robots", reason="lerobot is not installed")
    double = Arm()

    class RealArm(robots.Robot):  # type: ignore[misc,name-defined]
        config_class, name = robots.RobotConfig, "arm"
        observation_features, action_features = Arm.observation_features, Arm.action_features
        is_connected = property(lambda self: double.is_connected)
        is_calibrated = True

        def connect(self, calibrate: bool = True) -> None: ...
        def calibrate(self) -> None: ...
        def configure(self) -> None: ...

        def get_observation(self) -> dict[str, Any]:
            return double.get_observation()

        def send_action(self, action: dict[str, float]) -> dict[str, float]:
            return double.send_action(action)

        def disconnect(self) -> None:
            double.disconnect()

    robots.RobotConfig.register_subclass("arm", RealArm.config_class)
    robot = LeRobotRobot(RealArm(RealArm.config_class()))
    robot.act(np.array([1, 2, 3], dtype=np.float32))
    obs = robot.observe()
    assert obs is not None
    np.testing.assert_array_equal(obs["state"], [1, 2, 3])
    robot.stop()
    assert double.sent[-1] == {"shoulder_pan.pos": 1.0, "elbow_flex.pos": 2.0, "gripper.pos": 3.0}
    assert not double.is_connected


def test_stopping_holds_the_present_position_and_disconnects() -> None:
    arm = Arm()
    robot = LeRobotRobot(arm)
    robot.act(np.zeros(3))
    arm.joints["gripper.pos"] = 9.0
    robot.stop()
    assert arm.sent[1:] == [{"shoulder_pan.pos": 0.0, "elbow_flex.pos": 0.0, "gripper.pos": 9.0}]
    assert not arm.is_connected


def test_one_that_was_told_nothing_is_only_disconnected() -> None:
    arm = Arm()
    LeRobotRobot(arm).stop()
    assert arm.sent == [] and not arm.is_connected


def test_stopping_disconnects_whatever_fails_before(caplog: pytest.LogCaptureFixture) -> None:
    arm = Arm()
    robot = LeRobotRobot(arm)
    robot.act(np.zeros(3))
    arm.fault = OSError("bus")
    robot.stop()
    assert "OSError: bus" in caplog.text and "keeps its last target" in caplog.text
    assert len(arm.sent) == 1 and not arm.is_connected


def test_a_base_that_rolls_is_stopped_and_not_held() -> None:
    arm = Arm()
    arm.joints = {"x.vel": 0.3, "lift.pos": 4.0}
    arm.observation_features = arm.action_features = dict.fromkeys(arm.joints, float)
    robot = LeRobotRobot(arm)
    robot.act(np.array([0.3, 4.0]))
    robot.stop()
    assert arm.sent[-1] == {"x.vel": 0.0, "lift.pos": 4.0}


def test_what_cannot_be_read_is_no_observation() -> None:
    arm = Arm()
    robot = LeRobotRobot(arm)
    arm.fault = RuntimeError("Incorrect status packet!")
    with pytest.raises(
        InputError, match=r"cannot be read \(RuntimeError: Incorrect status packet!"
    ):
        robot.observe()
    arm.is_connected = False
    with pytest.raises(InputError, match="not connected any more"):
        robot.observe()


def test_a_camera_that_is_late_is_no_observation() -> None:
    arm = Arm()
    robot = LeRobotRobot(arm)
    arm.fault = TimeoutError("camera")
    assert robot.observe() is None


def test_robots_that_cannot_be_used_are_refused() -> None:
    arm = Arm()
    arm.is_connected = False
    with pytest.raises(InputError, match="not connected"):
        LeRobotRobot(arm)
    arm = Arm()
    arm.action_features = {"action": (3,)}
    with pytest.raises(InputError, match="'action' has shape"):
        LeRobotRobot(arm)


def test_it_runs_in_the_loop() -> None:
    class Reach:
        n_obs_steps, n_action_steps, horizon = 1, 4, 4
        spec = DataSpec({"state": (3,), "top": (4, 6, 3)}, 3)

        def reset(self) -> None:
            pass

        def sample(self, batch: Any) -> Sampled:
            steps = np.arange(1, 5, dtype=np.float32)[None, :, None]
            return Sampled(batch["state"][:, -1:] + steps * np.ones(3, np.float32))

    arm, clock = Arm(), SimulatedClock()
    loop = ControlLoop(
        LeRobotRobot(arm),
        Reach(),  # type: ignore[arg-type]
        hz=30,
        options=ControlOptions(max_change=1.0, position_key="state"),
        clock=clock,
        inference=lambda predict: SimulatedInference(predict, clock),
    )
    result = loop.run(12)
    assert result.steps == 12
    assert arm.joints == dict.fromkeys(JOINTS, 12.0)
    assert not arm.is_connected
