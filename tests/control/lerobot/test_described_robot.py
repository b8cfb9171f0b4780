"""A robot that LeRobot's own registry makes, in the control loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.control import ROBOTS, load_recording, run_robot
from lfm_policy.control.lerobot.described_robot import DescribedRobot
from lfm_policy.errors import InputError, RobotError
from lfm_runtime.control import ControlOptions, Recorder, guard

from .conftest import ROBOT, Upwards, robot_options

Make = Callable[..., DescribedRobot]


def run(robot: DescribedRobot, policy: Any = None, *, max_ticks: int = 8, **given: Any) -> Any:
    policy = Upwards() if policy is None else policy
    simulated = given.pop("simulated", True)
    recorder = given.pop("recorder", None)
    return run_robot(
        policy,
        robot,
        hz=robot.hz,
        options=ControlOptions(**given),
        simulated=simulated,
        recorder=recorder,
        max_ticks=max_ticks,
    ).control


def told(robot: DescribedRobot) -> list[tuple[float, ...]]:
    return [call for call in robot._robot.calls if isinstance(call, tuple)]


def test_it_is_connected_controlled_held_and_disconnected(described: Make) -> None:
    robot = described()
    result = run(robot)
    calls = robot._robot.calls
    assert (result.reason, result.steps) == ("max_ticks", 8 - result.approached)
    assert calls[0] == "connect" and calls[-1] == "disconnect" and calls.count("disconnect") == 1
    # Within the limits from the first action on, measured from where it stands.
    steps = np.diff([[1.0, 2.0, 50.0], *told(robot)], axis=0)
    assert (np.abs(steps) <= [2.0, 2.0, 10.0]).all() and (steps[:8] > 0).all()
    # The last is a hold: where it is.
    assert told(robot)[-1] == told(robot)[-2]
    assert not robot._robot.connected


def test_limits_hold(described: Make) -> None:
    joints = ROBOT["joints"] | {
        "pan.pos": {"unit": "degrees", "low": -5, "high": 2.5, "max_change": 0.5}
    }
    robot = described(joints=joints)
    result = run(robot, max_ticks=20)
    pan = [0.0 if not values else values[0] for values in told(robot)]
    assert max(pan) == 2.5 and np.diff([1.0, *pan]).max() <= 0.5 and result.limited


def test_the_stricter_of_file_and_options_holds(described: Make) -> None:
    robot, spec = described(), Upwards().spec
    given = ControlOptions(max_change=3.0, max_staleness=9.0, max_bad_observations=2)
    options = robot.prepare(spec, given)
    assert options.max_change == [2.0, 2.0, 3.0]
    assert (options.max_staleness, options.max_bad_observations) == (5.0, 2)
    assert (options.low, options.high) == ([-90.0, -10.0, 0.0], [90.0, 90.0, 100.0])
    stricter = robot.prepare(spec, ControlOptions(low=[-5.0, -50.0, 40.0], high=50.0))
    assert (stricter.low, stricter.high) == ([-5.0, -10.0, 40.0], [50.0, 50.0, 50.0])
    with pytest.raises(InputError, match="low has 2 numbers, expected one, or 3: pan.pos"):
        robot.prepare(spec, ControlOptions(low=[-5.0, 3.0]))
    assert (options.position_key, options.first_move) == ("state", 0.01)
    assert described(first_move=None).prepare(spec, ControlOptions()).first_move == 3.0


def test_a_dry_run_tells_it_nothing(described: Make, caplog: pytest.LogCaptureFixture) -> None:
    robot = described()
    with caplog.at_level("INFO", logger="lfm_runtime.control"):
        run(robot, dry_run=True)
    assert told(robot) == [] and robot._robot.calls[-1] == "disconnect"
    said = [r.message for r in caplog.records if "would be told" in r.message]
    assert len(said) == 8 and "pan.pos 2, lift.pos 3, gripper.pos 51" in said[0]


def test_observations_are_found_by_name_and_by_what_the_file_says(described: Make) -> None:
    robot = described(
        robot=robot_options(frames=["front", "top"], more=3),
        observations={"wrist": "top", "force": ["more_2", "more_0"]},
    )
    policy = Upwards(
        "observation.state", wrist=(6, 8, 3), force=(2,), **{"observation.images.front": (6, 8, 3)}
    )
    run(robot, policy)
    seen = policy.seen[0]
    assert seen["observation.images.front"].shape == seen["wrist"].shape == (1, 1, 6, 8, 3)
    np.testing.assert_array_equal(seen["force"][0, 0], [2, 0])
    np.testing.assert_array_equal(seen["observation.state"][0, 0], [1, 2, 50])


def test_joints_follow_the_order_of_the_file(
    described: Make, caplog: pytest.LogCaptureFixture
) -> None:
    joints = dict(reversed(ROBOT["joints"].items()))
    robot, policy = described(joints=joints), Upwards()
    assert "in another order than LeRobot records them in (pan.pos, lift.pos" in caplog.text
    run(robot, policy, max_ticks=2)
    np.testing.assert_array_equal(policy.seen[0]["state"][0, 0], [50, 2, 1])
    assert told(robot)[0] == (51.0, 3.0, 2.0)
    assert robot._robot.at["gripper.pos"] > 50


def test_a_policy_that_sees_only_a_camera_begins_slowly_too(
    described: Make, tmp_path: Path
) -> None:
    robot, policy = (
        described(robot=robot_options(frames=["front"])),
        Upwards(None, front=(6, 8, 3)),
    )
    policy.start = 40.0
    with Recorder(tmp_path / "run.zarr", {"hz": robot.hz}, wait=True) as recorder:
        run(robot, policy, recorder=recorder, max_ticks=6)
    steps = np.diff([[1.0, 2.0, 50.0], *told(robot)], axis=0)
    assert (np.abs(steps) <= [2.0, 2.0, 10.0]).all()
    (episode,) = load_recording(tmp_path / "run.zarr")
    assert episode.action_names == ("pan.pos", "lift.pos", "gripper.pos")
    np.testing.assert_array_equal(episode.action, np.float32(told(robot)[:6]))


def test_other_cameras_can_be_recorded(described: Make, tmp_path: Path) -> None:
    robot = described(robot=robot_options(frames=["front"]))
    with Recorder(tmp_path / "run.zarr", {"hz": robot.hz}, wait=True) as recorder:
        run_robot(
            Upwards(),
            robot,
            hz=robot.hz,
            simulated=True,
            recorder=recorder,
            record_obs=["front"],
            max_ticks=3,
        )
    assert (tmp_path / "run.zarr" / "data" / "front").exists()


# -- the end ---------------------------------------------------------------------------------------


def test_on_stop_may_be_nothing(described: Make) -> None:
    robot = described(on_stop="nothing")
    run(robot)
    assert len(told(robot)) == 8 and robot._robot.calls[-1] == "disconnect"


def test_on_stop_may_be_a_place_that_is_gone_to_slowly(described: Make) -> None:
    rest = {"pan.pos": 0, "lift.pos": 0, "gripper.pos": 0}
    robot = described(on_stop=rest, hz=1000)
    run(robot)
    assert told(robot)[-1] == (0.0, 0.0, 0.0)
    steps = np.diff(told(robot), axis=0)
    assert (np.abs(steps) <= np.array([2.0, 2.0, 10.0]) + 1e-6).all()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("when", ["connect", "observe"])
def test_a_signal_disconnects(described: Make, number: signal.Signals, when: str) -> None:
    robot = described()
    robot._robot.before = lambda call: (
        os.kill(os.getpid(), number) if call == when else None  # type: ignore[func-returns-value]
    )
    assert run(robot, simulated=False).reason == number.name
    assert robot._robot.calls[-1] == "disconnect" and not robot._robot.connected


@pytest.mark.parametrize("when", ["connect", "observe"])
def test_one_that_hangs_is_disconnected_and_told_nothing(
    described: Make, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_BEGINNING", 0.1)
    robot, hung = described(on_stop=dict.fromkeys(ROBOT["joints"], 5)), threading.Event()
    robot._robot.before = lambda call: (
        hung.wait(60) if call == when and (told(robot) or when == "connect") else None
    )
    result = run(robot, simulated=False, hang_timeout=0.3, max_ticks=10_000)
    assert result.reason == "robot hung"
    # It may have been told something before it hung, and is not called again but for this.
    if when == "connect":
        assert robot._robot.calls == ["connect"] and not robot._robot.camera.is_connected
    else:
        assert robot._robot.calls[-2:] == ["observe", "disconnect"]


def test_bad_observations_end_the_run(described: Make, caplog: pytest.LogCaptureFixture) -> None:
    robot = described()

    def fail(call: Any) -> None:
        if call == "observe" and len(told(robot)) >= 4:
            raise ConnectionError("lost packet")

    robot._robot.before = fail
    result = run(robot, max_ticks=100)
    assert (result.reason, result.bad_observations) == ("bad observations", 3)
    assert "ConnectionError: lost packet" in caplog.text
    # Where it is cannot be read, so it keeps its last target.
    assert "it keeps its last target" in caplog.text
    assert robot._robot.calls[-1] == "disconnect"


def test_nan_is_no_observation(described: Make) -> None:
    robot = described()
    robot._robot.before = lambda call: (
        robot._robot.at.update({"pan.pos": float("nan")}) if len(told(robot)) >= 4 else None
    )
    assert run(robot, max_ticks=100).reason == "bad observations"
    assert np.isfinite(told(robot)).all()


def test_an_action_that_is_refused_ends_the_run(described: Make) -> None:
    robot = described()

    def fail(call: Any) -> None:
        if isinstance(call, tuple) and len(told(robot)) == 4:
            raise OSError("write failed")

    robot._robot.before = fail
    # The line of the code is left out: it would be one of ours.
    message = r"act\(\) failed at step 2: .* did not take an action: OSError: write failed; the rob"
    with pytest.raises(RobotError, match=message):
        run(robot)
    assert not robot._robot.connected


# -- what cannot be run ----------------------------------------------------------------------------


def test_one_that_cannot_be_connected_is_disconnected_as_far_as_it_is(described: Make) -> None:
    robot = described()

    def fail(call: Any) -> None:
        if call == "connect":
            raise OSError("no such port")

    robot._robot.before = fail
    with pytest.raises(InputError, match="cannot be connected .*no such port.*lerobot-find-port"):
        run(robot)
    # LeRobot's own disconnect() refuses a robot of which a part is missing.
    assert "disconnect" not in robot._robot.calls and not robot._robot.camera.is_connected


def test_one_that_is_not_calibrated_is_refused(described: Make) -> None:
    robot = described()
    robot._robot.calibrated = False
    with pytest.raises(InputError, match="not calibrated.*lerobot-calibrate --robot.type=pretend"):
        run(robot)
    assert robot._robot.calls == ["connect", "disconnect"]


def test_one_that_stands_outside_of_its_limits_is_refused(described: Make) -> None:
    robot = described()
    robot._robot.at["lift.pos"] = -20.0
    with pytest.raises(InputError, match="'lift.pos' stands at -20 degrees, outside .*-10 to 90"):
        run(robot)
    assert told(robot) == [] and not robot._robot.connected


def test_one_that_gives_nothing_whole_is_refused(described: Make) -> None:
    robot = described()
    robot._robot.at["pan.pos"] = float("nan")
    with pytest.raises(InputError, match="no whole observation: .*'state' contains NaN"):
        run(robot)
    assert not robot._robot.connected


def test_what_does_not_suit_the_loop_is_said_before_it_is_connected(described: Make) -> None:
    robot = described()
    with pytest.raises(InputError, match="lead is 9"):
        run(robot, lead=9)
    assert robot._robot.calls == []


def test_velocities_cannot_be_held(described: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = described()
    names = ("pan.pos", "lift.pos", "base.vel")
    joints = dict(zip(names, robot._said.joints.values(), strict=True))
    monkeypatch.setattr(robot._said, "joints", joints)
    with pytest.raises(InputError, match="velocities.*--on-miss stop"):
        robot.prepare(Upwards(None).spec, ControlOptions())
    with pytest.raises(InputError, match="velocities.*--on-policy-change stop"):
        options = ControlOptions(on_miss="stop", on_policy_change="hold")
        robot.prepare(Upwards(None).spec, options)
    still = robot.prepare(Upwards(None).spec, ControlOptions(hold_action=[0.0, 0.0, 0.0]))
    assert still.on_miss == "hold" and still.hold_action == [0.0, 0.0, 0.0]
    with pytest.raises(InputError, match="on_miss is 'continue'"):
        options = ControlOptions(on_miss="continue", hold_action=[0.0, 0.0, 0.0])
        robot.prepare(Upwards(None).spec, options)


def test_a_policy_whose_task_is_known(described: Make) -> None:
    robot, policy = described(), Upwards(task=(2,))
    policy.spec = replace(policy.spec, tasks=("pick", "place"))
    with pytest.raises(InputError, match="which task .*--task NAME.* pick, place"):
        run(robot, policy)
    assert robot._robot.calls == []
    policy.task = "pick"
    assert run(described(), policy).steps > 0


def test_it_is_in_the_list_of_robots(lerobot: None, file: Callable[..., Path]) -> None:
    robot = ROBOTS.make("lerobot", type="pretend", config=file())
    assert (robot.hz, robot.action_names) == (100.0, tuple(ROBOT["joints"]))
