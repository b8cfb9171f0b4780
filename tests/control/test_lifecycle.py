"""Every way out of a run stops the robot; threads, signals, policies that are out of reach."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lfm_runtime.control import ControlLoop, ControlOptions
from lfm_runtime.control.clock import RealClock, SimulatedClock
from lfm_runtime.control.planning import inference
from lfm_runtime.control.planning.inference import ThreadedInference
from lfm_runtime.wire.server_metadata import PolicyChangedError

from .conftest import Bench, Continues, Counter, Sampled


class Broken(Exception):
    pass


def test_stop_is_called_once_after_a_normal_end(bench: Bench) -> None:
    assert bench.run(5).reason == "max_ticks"
    assert bench.robot.stops == 1


@pytest.mark.parametrize("where", ["observe", "act", "policy", "reset", "inference"])
@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, SystemExit])
def test_stop_is_called_after_any_exception(
    bench: Bench, where: str, error: type[BaseException]
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error("no more")

    factory = None
    if where == "observe":
        bench.robot.before_observe = lambda seen: fail() if seen == 3 else None
    elif where == "act":
        bench.robot.act = fail
    elif where == "policy":
        bench.policy.sample = fail
    elif where == "reset":
        bench.policy.reset = fail
    else:
        factory = fail
    loop = ControlLoop(
        bench.robot,
        bench.policy,
        hz=10,
        clock=bench.clock,
        inference=factory or (lambda predict: inference.SimulatedInference(predict, bench.clock)),
    )
    with pytest.raises(error, match="no more"):
        loop.run(20)
    assert bench.robot.stops == 1


def test_stop_is_called_even_if_the_recorder_or_closing_fails(bench: Bench) -> None:
    class Stuck(inference.SimulatedInference):
        def close(self) -> None:
            assert bench.robot.stops == 1
            raise Broken("close")

    loop = ControlLoop(
        bench.robot,
        bench.policy,
        hz=10,
        clock=bench.clock,
        inference=lambda predict: Stuck(predict, bench.clock),
    )
    with pytest.raises(Broken):
        loop.run(3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_and_stops_the_robot(bench: Bench, number: signal.Signals) -> None:
    bench.robot.before_observe = lambda seen: (
        os.kill(os.getpid(), number) if seen == 5 else None  # type: ignore[func-returns-value]
    )
    before = signal.getsignal(number)
    result = bench.run(1000)
    assert (result.reason, result.ticks) == (number.name, 6)
    assert bench.robot.stops == 1
    assert signal.getsignal(number) == before


def test_a_policy_out_of_reach_is_waited_for(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    sample = bench.policy.sample
    asked = []

    def sometimes(batch: Any) -> Sampled:
        asked.append(len(asked))
        if 3 <= len(asked) <= 12:
            raise [ConnectionError("gone"), TimeoutError("slow")][len(asked) % 2]
        return sample(batch)

    bench.policy.sample = sometimes
    result = bench.run(60)
    assert result.failed_calls == 10
    assert result.held > 0
    executed = [
        v for k, v in enumerate(bench.robot.acted) if not k or v != bench.robot.acted[k - 1]
    ]
    assert executed == [float(k) for k in range(result.steps)]
    assert sum("cannot be reached" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("on_miss", ["hold", "continue", "stop"])
def test_the_robot_holds_while_another_policy_is_served(bench: Bench, on_miss: str) -> None:
    sample = bench.policy.sample
    asked = []

    def sometimes(batch: Any) -> Sampled:
        asked.append(bench.clock.now())
        if 3 <= len(asked) <= 6:
            raise PolicyChangedError("the server", ["nfe: 4, before 2"])
        return sample(batch)

    bench.policy.sample = sometimes
    result = bench.run(80, lead=1, on_miss=on_miss, on_policy_change="hold")
    assert (result.reason, result.policy_changes, result.continued) == ("max_ticks", 1, 0)
    assert result.held > 30
    moved = [v for k, v in enumerate(bench.robot.acted) if not k or v != bench.robot.acted[k - 1]]
    assert moved == [float(k) for k in range(result.steps)]
    # It is asked again, but not in every tick.
    assert all(later - before >= 1 for before, later in pairwise(asked[2:7]))


def test_the_run_ends_when_another_policy_is_served(bench: Bench) -> None:
    sample = bench.policy.sample

    def changed(batch: Any) -> Sampled:
        if len(bench.policy.calls) == 2:
            raise PolicyChangedError("the server", ["nfe: 4, before 2"])
        return sample(batch)

    bench.policy.sample = changed
    result = bench.run(80, lead=1)
    assert (result.reason, result.policy_changes) == ("policy changed", 1)
    # At once, and not when the chunk of the old policy has come to its end.
    assert bench.robot.acted == [float(k) for k in range(6)]
    assert bench.robot.stops == 1


# -- real threads; no test asserts a time -------------------------------------------------------


def test_the_loop_goes_on_while_a_thread_computes() -> None:
    """A chunk comes only when the robot has been observed often enough."""
    robot, policy = Counter(ends_at=20), Continues()
    enough = threading.Event()
    robot.before_observe = lambda seen: enough.set() if seen == 6 else None
    sample = policy.sample

    def slow_at_first(batch: Any) -> Sampled:
        assert enough.wait(60)
        return sample(batch)

    policy.sample = slow_at_first  # type: ignore[method-assign, assignment]
    options = ControlOptions(lead=2, patience=0.0, max_staleness=600.0)
    result = ControlLoop(robot, policy, hz=200, options=options).run(20_000)
    assert result.reason == "done"
    assert result.waiting >= 5
    moved = [value for k, value in enumerate(robot.acted) if k == 0 or value != robot.acted[k - 1]]
    assert moved == [float(k) for k in range(21)]


def test_an_exception_in_the_thread_stops_the_robot() -> None:
    robot, policy = Counter(), Continues()

    def fail(batch: Any) -> Sampled:
        raise Broken("in the thread")

    policy.sample = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(Broken, match="in the thread"):
        ControlLoop(robot, policy, hz=200).run(20_000)
    assert robot.stops == 1


def test_a_policy_that_hangs_does_not_keep_the_robot_from_stopping(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(inference, "_CLOSE_TIMEOUT", 0.05)
    robot, policy = Counter(), Continues()
    release = threading.Event()
    policy.sample = lambda batch: release.wait(60)  # type: ignore[method-assign, assignment]
    result = ControlLoop(robot, policy, hz=200).run(5)
    assert (result.reason, robot.stops, robot.acted) == ("max_ticks", 1, [])
    assert "left behind" in caplog.text
    release.set()


def test_a_thread_answers_in_its_own_time() -> None:
    go = threading.Event()

    def predict(request: Any) -> np.ndarray:
        assert go.wait(60)
        return np.zeros((1, 1))

    clock = RealClock()
    worker = ThreadedInference(predict, clock)
    assert worker.take(clock.now() + 0.001) is None
    worker.submit("anything")  # type: ignore[arg-type]
    assert worker.busy
    assert worker.take(clock.now()) is None
    go.set()
    answer = worker.take(clock.now() + 60)
    assert answer is not None and answer.actions is not None and answer.error is None
    assert not worker.busy
    worker.close()


def test_clocks_do_not_go_back() -> None:
    simulated, real = SimulatedClock(5.0), RealClock()
    simulated.sleep_until(3.0)
    simulated.advance(-1.0)
    assert simulated.now() == 5.0
    before = real.now()
    real.sleep_until(before - 1)
    real.sleep_until(before + 0.001)
    assert real.now() >= before + 0.001


# -- robots that have to be connected -------------------------------------------------------------


def test_a_robot_begins_before_all_else_and_is_stopped_if_it_cannot(bench: Bench) -> None:
    calls: list[str] = []
    bench.robot.before_observe = lambda seen: calls.append("observe")  # type: ignore[func-returns-value]
    bench.robot.begin_run = lambda: calls.append("begin")
    bench.run(2)
    assert calls == ["begin", "observe", "observe"]

    def fail() -> None:
        raise Broken("no port")

    bench.robot.begin_run, bench.robot.stops = fail, 0
    with pytest.raises(Broken, match="no port"):
        bench.run(2)
    assert bench.robot.stops == 1


def test_a_signal_while_a_robot_begins_ends_the_run(bench: Bench) -> None:
    bench.robot.begin_run = lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert bench.run(2).reason == "SIGTERM"
    assert (bench.robot.stops, bench.robot.seen) == (1, 0)
