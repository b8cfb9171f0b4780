"""What has to be said of a robot, and the line that a message asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.control.lerobot.robot_file import RobotDescription
from lfm_policy.errors import InputError

from .conftest import ROBOT

File = Callable[..., Path]


def joint(**changes: Any) -> dict[str, Any]:
    of = {k: v for k, v in (ROBOT["joints"]["pan.pos"] | changes).items() if v is not None}
    return {"joints": ROBOT["joints"] | {"pan.pos": of}}


MISTAKES = {
    "hz is missing .*at the left margin the line `hz: 30`": {"hz": None},
    "max_staleness is missing .*the line `max_staleness: 0.5`": {"max_staleness": None},
    "max_bad_observations is missing .*the line `max_bad_observations: 15`": {
        "max_bad_observations": None
    },
    "joints.pan.pos.low is missing .*under joints.pan.pos the line `low: -90`": joint(low=None),
    "joints.pan.pos.high is missing .*the line `high: 90`": joint(high=None),
    "joints.pan.pos.max_change is missing .*the line `max_change: 3`": joint(max_change=None),
    "joints.pan.pos.unit is missing .*the line `unit: degrees`": joint(unit=None),
    "joints.pan.pos.max_change is -1, expected a number above 0": joint(max_change=-1),
    "joints.pan.pos: low is 5, expected less than high 5": joint(low=5, high=5),
    "joints.pan.pos.low: found 'far', expected float": joint(low="far"),
    "unknown key 'joints.pan.pos.lwo' .* did you mean 'low'": joint(lwo=3),
    "joints.pan.pos: found 3, expected unit, low": {"joints": {"pan.pos": 3}},
    "unknown key 'max_stalenes'": {"max_stalenes": 1},
    "max_staleness is 0, expected a number above 0": {"max_staleness": 0},
    "on_stop is 'fall', expected hold, nothing, or": {"on_stop": "fall"},
    "on_stop names pan.pos, expected all of pan.pos, lift.pos": {"on_stop": {"pan.pos": 0}},
    "on_stop.lift.pos is -11, expected a number from -10 to 90": {
        "on_stop": {"pan.pos": 0, "lift.pos": -11, "gripper.pos": 0}
    },
}


@pytest.mark.parametrize("message", MISTAKES)
def test_what_is_missing_or_wrong_is_named(file: File, message: str) -> None:
    with pytest.raises(InputError, match=f"robot.yaml: .*{message}"):
        RobotDescription(file(**MISTAKES[message]))


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        RobotDescription(tmp_path / "robot.yaml")
    (tmp_path / "robot.yaml").write_text("- hz")
    with pytest.raises(InputError, match="expected keys and values"):
        RobotDescription(tmp_path / "robot.yaml")


def test_joints_are_those_of_the_robot(file: File) -> None:
    said = RobotDescription(file())
    said.check_joints(dict.fromkeys(said.joints, ""))
    units = {"pan.pos": "degrees", "lift.pos": "degrees", "gripper.pos": "range_0_100"}
    said.check_joints(units)
    lines = re.escape("joints:\n  wrist.pos: {unit: degrees, low: ?, high: ?, max_change: ?}")
    with pytest.raises(InputError, match=f"(?s)1 of the 4 numbers.*not there.*{lines}"):
        said.check_joints(units | {"wrist.pos": "degrees"})
    with pytest.raises(InputError, match="takes no gripper.pos: it takes pan.pos, lift.pos$"):
        said.check_joints({"pan.pos": "", "lift.pos": ""})
    with pytest.raises(InputError, match="joints.pan.pos.unit is 'degrees', but .*range_m100_100"):
        said.check_joints(units | {"pan.pos": "range_m100_100"})
