"""Robots by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.control import ROBOTS, run_robot
from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy
from lfm_runtime.control import ControlOptions


class Counter:
    """A robot that is done after some actions."""

    simulated = True

    def __init__(self, steps: int = 3) -> None:
        self.left, self.stopped = steps, 0

    @property
    def done(self) -> bool:
        return self.left == 0

    def observe(self) -> dict[str, Any]:
        return {
            "agent_pos": np.full(2, 250.0, np.float32),
            "block_pose": np.array([250, 250, 1, 0], np.float32),
            "keypoints": np.full(16, 250.0, np.float32),
        }

    def act(self, action: np.ndarray) -> None:
        assert action.shape == (2,)
        self.left -= 1

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ROBOTS, "_entries", {"counter": Counter})


def test_a_robot_is_controlled_until_it_is_done() -> None:
    robot = ROBOTS.make("counter", steps=5)
    outcome = run_robot(load_policy("pusht-state"), robot, hz=10.0, seed=7, simulated=True)
    assert (outcome.control.reason, outcome.steps, outcome.success) == ("done", 5, None)
    assert outcome.seed == 7 and outcome.action_jerk >= 0
    assert robot.stopped == 1


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="unknown robot 'conter': did you mean 'counter'"):
        ROBOTS.make("conter")
    with pytest.raises(InputError, match="the robot 'counter' does not take this: .*'port'"):
        ROBOTS.make("counter", port="/dev/ttyACM0")


def test_a_dry_run_on_the_command_line(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "control pusht-state --robot counter --simulated --dry-run --max-ticks 6 --quiet"
    assert main([*line.split(), "--position-key", "agent_pos", "--first-move", "0.3"]) == 0
    said = [record.message for record in caplog.records if "would be told" in record.message]
    assert len(said) == 6 and "max_ticks" in capsys.readouterr().out
    # Three ticks of the way, and three as the policy says.
    assert sum(text.startswith("step 0:") for text in said) == 4
    assert main(["control", "pusht-state", "--robot", "counter", "--first-move", "1"]) == 2
    assert "first_move is 1.0, which needs position_key" in capsys.readouterr().err


def test_a_robot_may_bring_limits_and_say_no() -> None:
    class Careful(Counter):
        def prepare(self, spec: Any, options: ControlOptions) -> ControlOptions:
            if options.lead:
                raise InputError("not with a lead")
            assert spec.action_dim == 2
            return replace(options, low=200.0, high=201.0)

        def act(self, action: np.ndarray) -> None:
            super().act(action)
            assert (action >= 200).all() and (action <= 201).all()

    policy, robot = load_policy("pusht-state"), Careful()
    outcome = run_robot(policy, robot, hz=10.0, simulated=True)
    assert outcome.steps == outcome.control.limited == 3
    robot = Careful()
    with pytest.raises(InputError, match="not with a lead"):
        run_robot(policy, robot, hz=10.0, options=ControlOptions(lead=1), simulated=True)
    assert robot.stopped == 1  # it may be under power
