"""LeRobot's registry of robots: its own, and those of plugins."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from lfm_policy.control.lerobot.registry import make_lerobot_robot, motor_units
from lfm_policy.errors import InputError

from .conftest import robot_options


def test_a_plugin_is_found_and_configured(lerobot: None) -> None:
    given = robot_options(type="pretend", frames=["a"], degrees=False)
    robot = make_lerobot_robot("pretend", given, "robot.yaml")
    assert not robot.is_connected and robot.id == "mine"
    assert robot.observation_features["a"] == (6, 8, 3)
    units = {
        "pan.pos": "range_m100_100",
        "lift.pos": "range_m100_100",
        "gripper.pos": "range_0_100",
    }
    assert motor_units(robot) == units


def test_units_of_two_arms_and_of_none(lerobot: None) -> None:
    arm: Any = make_lerobot_robot("pretend", robot_options(), "robot.yaml")
    both = SimpleNamespace(left_arm=arm, right_arm=arm)
    assert motor_units(both)["right_gripper.pos"] == "range_0_100" and len(motor_units(both)) == 6
    assert motor_units(SimpleNamespace()) == {}


def test_an_unknown_type_lists_those_that_are_known(lerobot: None) -> None:
    with pytest.raises(
        InputError, match="no robot 'pretnd': did you mean 'pretend'.*known: .*so101"
    ):
        make_lerobot_robot("pretnd", {}, "robot.yaml")
    with pytest.raises(InputError, match="no robot 'xyz': known: .*pretend.*so101_follower"):
        make_lerobot_robot("xyz", {}, "robot.yaml")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Missing required field.*port.*it takes .*port"),
        ({"port": "x", "cameas": []}, "cameas"),
        ({"port": "x", "more": "many"}, "many"),
    ],
)
def test_what_its_configuration_refuses_is_said(
    lerobot: None, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"robot.yaml: LeRobot's 'pretend' refuses.*{message}"):
        make_lerobot_robot("pretend", given, "robot.yaml")


def test_another_type_is_refused(lerobot: None) -> None:
    with pytest.raises(InputError, match="robot.type is 'so101_follower', but .* is 'pretend'"):
        make_lerobot_robot("pretend", robot_options(type="so101_follower"), "robot.yaml")


def test_cameras_are_known(lerobot: None) -> None:
    front = {"type": "opencv", "index_or_path": 0, "width": 8, "height": 6, "fps": 30}
    given = {"port": "x", "id": "none", "cameras": {"front": front | {"type": "opencvv"}}}
    with pytest.raises(InputError, match="opencvv"):
        make_lerobot_robot("so101_follower", given, "robot.yaml")


def test_it_is_said_when_lerobot_is_not_there_or_too_old(
    lerobot: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.3.3")
    with pytest.raises(InputError, match="LeRobot 0.3.3 is installed, expected 0.4 or later"):
        make_lerobot_robot("pretend", {}, "robot.yaml")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"LeRobot is not installed.*lerobot\[feetech\]"):
        make_lerobot_robot("pretend", {}, "robot.yaml")
