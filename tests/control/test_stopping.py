"""Processes that are told to end, again and again, or whose robot hangs: the robot is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.control import load_recording
from lfm_runtime.control import ControlLoop, ControlOptions, guard, loop
from lfm_runtime.control.guard import RobotGuard

from .conftest import Continues, Counter

pytestmark = pytest.mark.slow

WAIT = 120.0

PROGRAM = """
import signal, sys, threading, time
import numpy as np
from lfm_runtime.control import ControlLoop, ControlOptions, Recorder
from lfm_runtime.policy.spec import DataSpec

def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

class Policy:
    spec, n_obs_steps, n_action_steps = DataSpec({"next": (1,)}, 1), 1, 4
    def reset(self): pass
    def predict_action_chunk(self, batch):
        return batch["next"][:, -1:] + np.ones((1, 4, 1), np.float32)

class Robot:
    simulated = True
    def __init__(self): self.ticks = 0
    def observe(self):
        self.ticks += 1
        if self.ticks == 20: self.hang()
        if self.ticks == 5: say("running")
        return {"next": np.zeros(1)}
    def act(self, action): pass
    def hang(self): pass
    def stop(self): say("stop")

"""
RUN = """
options = ControlOptions(hang_timeout=HANG)
result = ControlLoop(Robot(), Policy(), hz=50, options=options, recorder=RECORDER).run()
say("ended: " + result.reason)
"""


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a program whose robot is changed by some code."""
    started: list[subprocess.Popen[str]] = []

    def start(
        code: str, *, hang: float = 60.0, recorder: str = "None", run: str = RUN
    ) -> subprocess.Popen[str]:
        program = PROGRAM + textwrap.dedent(code)
        program += run.replace("HANG", str(hang)).replace("RECORDER", recorder)
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if found.strip() == line:
            return
    raise AssertionError(f"it ended without '{line}'")


def rest(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    out, err = process.communicate(timeout=WAIT)
    return process.returncode, out.split("\n")[:-1], err


SLOW_STOP = """
class Robot(Robot):
    def stop(self):
        say("stopping")
        end = time.monotonic() + 1.0
        while time.monotonic() < end:  # not one call, so that there is much to interrupt
            time.sleep(0.01)
        say("stop")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_during_stop_interrupt_nothing(
    launch: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = launch(SLOW_STOP)
    read_until(process, "running")
    process.send_signal(number)
    read_until(process, "stopping")
    for _ in range(3):
        process.send_signal(number)
        threading.Event().wait(0.1)
    assert rest(process)[:2] == (0, ["stop", f"ended: {number.name}"])


def test_a_stop_that_takes_long_is_said_and_left_alone(
    launch: Callable[..., subprocess.Popen[str]],
) -> None:
    process = launch(SLOW_STOP, hang=0.2)
    read_until(process, "running")
    process.send_signal(signal.SIGTERM)
    code, lines, err = rest(process)
    assert (code, lines) == (0, ["stopping", "stop", "ended: SIGTERM"])
    assert err.count("robot.stop() takes long; only SIGKILL ends it") == 1


def test_signals_before_and_during_the_first_tick(
    launch: Callable[..., subprocess.Popen[str]],
) -> None:
    process = launch(
        """
        say("running")
        class Policy(Policy):
            def reset(self): say("reset"); time.sleep(0.5)
        """
        + textwrap.indent(SLOW_STOP, " " * 8)
    )
    read_until(process, "reset")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        threading.Event().wait(0.05)
    assert rest(process)[:2] == (0, ["stopping", "stop", "ended: SIGINT"])


SWALLOWS = """
class Robot(Robot):
    def hang(self):
        say("hanging")
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
"""
LOCKED = """
class Robot(Robot):
    def hang(self):
        say("hanging")
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
"""


@pytest.mark.parametrize("code", [SWALLOWS, LOCKED], ids=["swallows", "locked"])
@pytest.mark.parametrize("signals", [[], [signal.SIGTERM], [signal.SIGINT] * 3])
def test_a_robot_that_hangs_is_stopped_by_the_watchdog(
    launch: Callable[..., subprocess.Popen[str]], code: str, signals: list[signal.Signals]
) -> None:
    process = launch(code, hang=0.5)
    read_until(process, "hanging")
    for number in signals:
        process.send_signal(number)
    code_, lines, err = rest(process)
    assert (code_, lines) == (0, ["stop", "ended: robot hung"])
    assert "robot.observe() has not returned for 0.5 seconds: stopping the robot" in err


def test_an_observation_that_hangs_when_it_is_looked_at(
    launch: Callable[..., subprocess.Popen[str]],
) -> None:
    """Some frames are fetched from the camera only when they become an array."""
    process = launch(
        """
        class Lazy:
            def __array__(self, *args, **options): time.sleep(60)
        class Robot(Robot):
            def observe(self):
                obs = super().observe()
                return {"next": Lazy()} if self.ticks > 9 else obs
        """,
        hang=0.5,
    )
    code, lines, err = rest(process)
    assert (code, lines) == (0, ["running", "stop", "ended: robot hung"])
    assert "robot.observe() has not returned for 0.5 seconds" in err


def test_a_robot_that_can_not_be_interrupted_ends_the_process_and_keeps_the_recording(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    path = tmp_path / "run.zarr"
    process = launch(
        """
        class Robot(Robot):
            def hang(self):
                while True:
                    try:
                        time.sleep(60)
                    except BaseException:
                        pass
        """,
        hang=0.3,
        recorder=f"Recorder({str(path)!r}, {{'hz': 50}})",
    )
    code, lines, err = rest(process)
    assert (code, lines) == (1, ["running", "stop"])
    assert "cannot be interrupted: the process ends" in err
    (episode,) = load_recording(path).episodes
    assert 0 < len(episode.action) <= 19


def test_an_action_that_hangs_and_a_stop_from_another_thread(
    launch: Callable[..., subprocess.Popen[str]],
) -> None:
    process = launch(
        """
        class Robot(Robot):
            def act(self, action): time.sleep(60)
            def stop(self): say(threading.current_thread().name)
        """,
        hang=0.3,
    )
    assert rest(process)[:2] == (0, ["lfm-watchdog", "ended: robot hung"])


def test_a_thread_that_nobody_waits_for_stops_its_robot_when_the_interpreter_ends(
    launch: Callable[..., subprocess.Popen[str]],
) -> None:
    process = launch(
        """
        class Robot(Robot):
            def observe(self):
                global running
                running.set()
                return super().observe()
        running = threading.Event()
        """,
        run="""
control = ControlLoop(Robot(), Policy(), hz=10)
threading.Thread(target=control.run, daemon=True).start()
running.wait(60)
""",
    )
    assert rest(process)[:2] == (0, ["stop"])


# -- in this process ------------------------------------------------------------------------------


def test_a_call_that_returns_after_the_robot_was_stopped_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a thread that is not the main one, a call cannot be interrupted; it is waited for."""
    monkeypatch.setattr(loop, "_GRACE", 0.1)
    robot, stopped = Counter(), threading.Event()
    stop, observe = robot.stop, robot.observe

    def slow_stop() -> None:
        stop()
        stopped.set()

    def slow_observe() -> Any:
        assert robot.seen != 3 or stopped.wait(WAIT)
        return observe()

    robot.stop, robot.observe = slow_stop, slow_observe  # type: ignore[method-assign]
    options = ControlOptions(lead=1, hang_timeout=0.2)
    results: list[Any] = []
    control = ControlLoop(robot, Continues(), hz=100, options=options)
    thread = threading.Thread(target=lambda: results.append(control.run(1000)))
    thread.start()
    thread.join(WAIT)
    assert (results[0].reason, robot.stops) == ("robot hung", 1)
    assert len(robot.acted) <= 3


def test_a_recorder_that_hangs_does_not_keep_the_robot_moving() -> None:
    class Stuck:
        stuck = threading.Event()

        def note(self, name: str, value: Any) -> None: ...

        def step(self, record: Any) -> None:
            assert self.stuck.wait(WAIT)

        def chunk(self, record: Any) -> None: ...

        def end_episode(self) -> None: ...

    robot, recorder = Counter(), Stuck()
    stop = robot.stop
    robot.stop = lambda: (stop(), recorder.stuck.set())[0]  # type: ignore[method-assign]
    options = ControlOptions(hang_timeout=0.2)
    result = ControlLoop(
        robot,
        Continues(),
        hz=100,
        options=options,
        recorder=recorder,  # type: ignore[arg-type]
    ).run(1000)
    assert (result.reason, robot.stops, len(robot.acted)) == ("recorder hung", 1, 1)


@pytest.mark.parametrize("stoppers", [1, 2, 8])
def test_a_robot_is_stopped_once_however_many_want_it(stoppers: int) -> None:
    robot = Counter()
    one = RobotGuard(robot, hang_timeout=5.0, watched=True)
    threads = [threading.Thread(target=one.stop) for _ in range(stoppers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert robot.stops == 1
    with pytest.raises(guard.Hang):
        one.act(robot.observe())  # type: ignore[arg-type]
    assert robot.acted == []
    one.close()


def test_what_stop_raises_is_raised_once() -> None:
    robot = Counter()

    def fail() -> None:
        raise OSError("the bus")

    robot.stop = fail  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the bus"):
        ControlLoop(robot, Continues(), hz=200).run(3)


def test_a_slow_rate_does_not_delay_the_end() -> None:
    """The next tick is an hour away when the signal comes."""
    robot = Counter()
    robot.before_observe = lambda seen: threading.Timer(
        0.2, os.kill, (os.getpid(), signal.SIGTERM)
    ).start()  # type: ignore[func-returns-value]
    options = ControlOptions(patience=0.0)
    result = ControlLoop(robot, Continues(), hz=1 / 3600, options=options).run()
    assert (result.reason, result.ticks, robot.stops) == ("SIGTERM", 1, 1)
