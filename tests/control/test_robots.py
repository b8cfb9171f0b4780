"""Robots by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.control import ROBOTS, run_robot
from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy
from lfm_runtime.control import ControlOptions

from .conftest import OBSERVED


class Counter:
    """A robot that is done after some actions."""

    simulated = True

    def __init__(self, steps: int = 3) -> None:
        self.left, self.stopped = steps, 0

    @property
    def done(self) -> bool:
        return self.left == 0

    def observe(self) -> dict[str, Any]:
        return OBSERVED

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


def test_simulated_time_is_for_simulated_robots(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = Counter()
    monkeypatch.setattr(Counter, "simulated", False)
    monkeypatch.setattr(ROBOTS, "_entries", {"real": lambda: robot})
    assert main(["control", "pusht-state", "--robot", "real", "--simulated"]) == 2
    assert "a real robot is driven in real time" in capsys.readouterr().err
    assert robot.stopped == 1 and robot.left == 3


def test_success_may_be_a_number_of_numpy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counter, "success", np.bool_(True), raising=False)
    assert main(["control", "pusht-state", "--robot", "counter", "--simulated", "--json"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["success"] is True and outcome["steps"] == outcome["planned"] == 3


def test_a_robot_that_does_not_know_its_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["control", "pusht-state", "--robot", "counter", "--simulated", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "success: - (the robot has no attribute success, or it is None)" in out
    assert "environment" not in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("control pusht-state --robot counter --env-option a=1", "--env-option is of environments"),
        ("control pusht-state --robot counter --observation a=all", "--observation is of environm"),
        ("control pusht-state --robot counter --success terminated", "--success is of environment"),
        ("control pusht-state --robot-option port=/dev/x", "--robot-option needs --robot"),
        ("control pusht-state --api-key-file {keys}", "nobody to show a key to"),
        ("control pusht-state --api-key-file nowhere", "nowhere: the file of keys cannot be read"),
        ("replay run.zarr --seed 5", "--seed is of an environment: give --env too"),
        ("replay run.zarr --env-option a=3", "--env-option is of an environment"),
        ("export pusht-state {out} --dataset nowhere", "--dataset is for --check"),
        ("export pusht-state {out} --episodes 3", "--episodes is for --check"),
    ],
)
def test_options_that_would_do_nothing(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_text("# ours\nsecret\n")
    filled = line.format(keys=tmp_path / "keys", out=tmp_path / "out")
    assert main(filled.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_policy_that_gives_no_numbers_ends_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def far(self: Counter) -> dict[str, Any]:
        return {key: np.full_like(v, 1e30) for key, v in OBSERVED.items()}

    monkeypatch.setattr(Counter, "observe", far)
    assert main(["control", "pusht-state", "--robot", "counter", "--simulated"]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: ") and "not finite" in error
