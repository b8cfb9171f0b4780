"""`lfm-policy control POLICY --robot TYPE --robot-config robot.yaml`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.control import load_recording

from .conftest import robot_options

Said = Callable[[], Any]

PUSHT: dict[str, Any] = {
    "robot": robot_options(gripper=False, more=20),
    "hz": 10,
    "joints": {
        "pan.pos": {"unit": "degrees", "low": 0, "high": 512, "max_change": 3},
        "lift.pos": {"unit": "degrees", "low": 0, "high": 512, "max_change": 3},
    },
    "observations": {
        "agent_pos": "joints",
        "block_pose": [f"more_{number}" for number in range(4)],
        "keypoints": [f"more_{number}" for number in range(4, 20)],
    },
}
"""The policy of PushT sees the joints where it saw the agent, and numbers that stand still."""


def control(file: Path, *more: str, robot: str = "pretend") -> int:
    line = ["control", "pusht-state", "--robot", robot, "--robot-config", str(file), "--quiet"]
    return main([*line, "--max-ticks", "20", "--patience", "0.9", *more])


def pretend() -> Any:
    return sys.modules["lerobot_robot_pretend"].Pretend.made[-1]


def test_a_dry_run(
    lerobot: None,
    file: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert control(file(**PUSHT), "--dry-run") == 0
    said = [record.message for record in caplog.records if "would be told" in record.message]
    assert said and all("pan.pos " in text and "lift.pos " in text for text in said)
    printed = capsys.readouterr().out
    assert "pusht-state on pretend at 10 Hz" in printed and "asked for: 10" in printed
    assert set(pretend().calls) == {"connect", "observe", "disconnect"}


def test_a_run_is_recorded(
    lerobot: None, file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "run.zarr"
    assert control(file(**PUSHT), "--record", str(record), "--hz", "20", "--json") == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert (outcome["reason"], outcome["ticks"]) == ("max_ticks", 20) and outcome["rate"] > 0
    recording = load_recording(record)
    assert recording.attributes["robot"]["type"] == "pretend"
    assert recording.attributes["robot"]["max_staleness"] == 5.0
    (episode,) = recording
    assert episode.hz == 20 and episode.action_names == ("pan.pos", "lift.pos")
    told = [call for call in pretend().calls if isinstance(call, tuple)]
    np.testing.assert_array_equal(np.float32(told[: len(episode.action)]), episode.action)
    assert not pretend().connected


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"max_staleness": None}, (), "max_staleness is missing"),
        ({"observations": {}}, (), "write under observations the line `agent_pos: joints`"),
        ({"joints": {}}, (), "pan.pos: {unit: degrees, low: ?, high: ?, max_change: ?}"),
        ({}, ("--simulated",), "driven in real time"),
        ({}, ("--robot-option", "port=3"), "stands in --robot-config"),
        ({}, ("--robot", ""), "give the type of robot"),
        ({}, ("--hz", "0"), "hz is 0"),
        ({}, ("--robot", "pretnd"), "did you mean 'pretend'"),
    ],
)
def test_what_is_wrong_is_one_line(
    lerobot: None,
    file: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    more: tuple[str, ...],
    message: str,
) -> None:
    assert control(file(**(PUSHT | changes)), *more) == 2
    assert message in capsys.readouterr().err


def test_without_a_file_a_type_of_lerobot_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["control", "pusht-state", "--robot", "so101_follower"]) == 2
    assert "one of LeRobot needs --robot-config robot.yaml" in capsys.readouterr().err
