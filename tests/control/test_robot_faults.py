"""What a robot's own code raises is said as the robot's: which call, which step, what was kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.control import ROBOTS, load_recording, run_robot
from lfm_policy.errors import InputError, RobotError
from lfm_policy.policy import load_policy
from lfm_runtime.control import ControlOptions

from .conftest import OBSERVED


class Faulty:
    """A robot of which some calls fail from the seventh tick on, and some at once."""

    simulated = True

    def __init__(self, **errors: BaseException) -> None:
        self.errors, self.ticks, self.stops = errors, 0, 0

    def fail(self, call: str) -> None:
        if call in self.errors:
            raise self.errors[call]

    def prepare(self, spec: Any, options: ControlOptions) -> ControlOptions:
        self.fail("prepare")
        return options

    def begin_run(self) -> None:
        self.fail("begin_run")

    @property
    def done(self) -> bool:
        if self.ticks == 7:
            self.fail("done")
        return self.ticks == 9

    def observe(self) -> dict[str, Any]:
        self.ticks += 1
        if self.ticks == 7:
            self.fail("observe")
        return OBSERVED

    def act(self, action: np.ndarray) -> None:
        if self.ticks == 7:
            self.fail("act")

    def stop(self) -> None:
        self.stops += 1
        self.fail("stop")


def control(
    monkeypatch: pytest.MonkeyPatch, robot: Faulty, *more: object, name: str = "faulty"
) -> int:
    monkeypatch.setattr(ROBOTS, "_entries", {name: lambda: robot})
    line = ["control", "pusht-state", "--robot", name, "--simulated", "--quiet"]
    return main([*line, *map(str, more)])


HERE = rf"\({re.escape(__file__)}, line \d+\)"


@pytest.mark.parametrize("error", [OSError, RuntimeError, ConnectionError, AttributeError])
@pytest.mark.parametrize("call", ["observe", "act"])
def test_one_line_says_that_it_was_the_robot_and_what_was_kept(
    call: str,
    error: type[Exception],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    robot, path = Faulty(**{call: error("bus error\nand more")}), tmp_path / "rec.zarr"
    assert control(monkeypatch, robot, "--record", path) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"error: the robot's {call}\(\) failed at step 6: {error.__name__}: bus error {HERE}; "
        rf"the robot was stopped; recorded: {re.escape(str(path))}",
        said,
    )
    assert robot.stops == 1
    (episode,) = load_recording(path).episodes
    assert len(episode.action) == 6 + (call == "act")


@pytest.mark.parametrize(
    ("call", "where"),
    [
        ("prepare", r"prepare\(\) failed"),
        ("begin_run", r"begin_run\(\) failed at step 0"),
        ("done", "done failed at step 6"),
    ],
)
def test_calls_that_a_robot_need_not_have(
    call: str,
    where: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    robot, path = Faulty(**{call: OSError("bus error")}), tmp_path / "rec.zarr"
    assert control(monkeypatch, robot, "--record", path) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    message = rf"error: the robot's {where}: OSError: bus error {HERE}; the robot was stopped; "
    kept = f"recorded: {re.escape(str(path))}" if call == "done" else "nothing was recorded"
    assert re.fullmatch(message + kept, said)
    assert (robot.stops, path.exists()) == (1, call == "done")


def test_a_robot_that_cannot_be_stopped_may_still_move(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control(monkeypatch, Faulty(stop=OSError("gone"))) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    message = rf"error: the robot's stop\(\) failed at step 8: OSError: gone {HERE}; "
    assert re.fullmatch(message + "it may still move: stop it by hand", said)
    assert control(monkeypatch, Faulty(act=KeyError("a"), stop=OSError("gone"))) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    message = rf"error: the robot's act\(\) failed at step 6: KeyError: 'a' {HERE}; its stop\(\) "
    message += rf"failed at step 6: OSError: gone {HERE}; it may still move: stop it by hand"
    assert re.fullmatch(message, said)


def test_a_real_robot_that_is_refused_and_cannot_be_stopped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "simulated", False)
    assert control(monkeypatch, Faulty(stop=OSError("gone"))) == 1
    assert "error: the robot's stop() failed: OSError: gone" in capsys.readouterr().err


def test_a_dry_run_counts_the_steps_that_it_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control(monkeypatch, Faulty(observe=OSError("gone")), "--dry-run") == 1
    assert "observe() failed at step 6: OSError: gone" in capsys.readouterr().err


def test_a_robot_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        raise errors.pop()

    monkeypatch.setattr(ROBOTS, "_entries", {"faulty": make})
    line = ["control", "pusht-state", "--robot", "faulty", "--simulated"]
    errors: list[Exception] = [OSError("no such port")]
    assert main(line) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    message = rf"error: the robot 'faulty' cannot be made: OSError: no such port {HERE}"
    assert re.fullmatch(message, said)
    errors.append(InputError("port is 7, expected a path"))
    assert main(line) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: port is 7, expected a path"


def run(robot: Faulty, policy: Any = None) -> Any:
    policy = load_policy("pusht-state") if policy is None else policy
    return run_robot(policy, robot, hz=10.0, simulated=True)


def test_the_cause_is_there_for_python() -> None:
    error = OSError("bus error")
    with pytest.raises(RobotError, match="act.. failed at step 6") as caught:
        run(Faulty(act=error))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("not in this mode")])
def test_what_says_all_itself_stays_as_it_is(error: BaseException) -> None:
    robot = Faulty(act=error)
    with pytest.raises(type(error)) as caught:
        run(robot)
    assert caught.value is error and robot.stops == 1


def test_what_the_policy_raises_is_not_the_robots() -> None:
    policy = load_policy("pusht-state")
    error = OSError("the weights")

    def fail(*args: Any, **options: Any) -> Any:
        raise error

    policy.sample = fail  # type: ignore[method-assign]
    robot = Faulty()
    with pytest.raises(OSError, match="the weights") as caught:
        run(robot, policy)
    assert caught.value is error and robot.stops == 1
