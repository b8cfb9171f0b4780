"""Whatever a robot returns for an observation, however long: the run holds, or ends in order."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.control import LeRobotRobot
from lfm_policy.errors import InputError
from lfm_runtime.control import ControlLoop, ControlOptions, SimulatedClock
from lfm_runtime.control.planning.sight import Occasions, Sight
from lfm_runtime.control.result import ControlResult
from lfm_runtime.policy.spec import DataSpec

from .conftest import Bench, Continues, Counter


class Refuses:
    """Converts itself to an array by raising."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise self.error


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

BAD: dict[str, Any] = {
    "a number": 5,
    "a list": [np.zeros(1)],
    "an array": np.zeros(1),
    "text": "next",
    "integer keys": {0: np.zeros(1), "other": np.zeros(1), b"next": 1},
    "no keys": {},
    "None inside": {"next": None},
    "a shape": {"next": np.zeros((1, 1))},
    "a scalar": {"next": 0.0},
    "a list of itself": {"next": ENDLESS},
    "ragged": {"next": [[0.0], [0.0, 1.0]]},
    "objects": {"next": np.array([object()])},
    "a huge integer": {"next": [10**400]},
    "complex": {"next": np.zeros(1, complex)},
    "a structure": {"next": np.zeros(1, [("a", "f4")])},
    "NaN": {"next": np.array([np.nan])},
    "too large": {"next": np.array([1e300])},
    "TypeError": {"next": Refuses(TypeError("no"))},
    "ValueError": {"next": Refuses(ValueError("no"))},
    "RuntimeError": {"next": Refuses(RuntimeError("no"))},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_everything_that_is_no_observation_is_a_bad_one(bench: Bench, bad: Any) -> None:
    observe = bench.robot.observe
    bench.robot.observe = lambda: (observe(), bad)[1] if 4 <= bench.robot.seen < 7 else observe()
    result = bench.run(30, lead=1)
    assert (result.bad_observations, result.reason) == (3, "max_ticks")
    assert bench.robot.acted[-1] == result.steps - 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.just("next") | st.integers() | st.text(max_size=3), inner)
        ),
        max_leaves=6,
    )
)
def test_a_history_takes_one_number_or_says_why_not(obs: Any) -> None:
    result = ControlResult()
    sight = Sight(DataSpec({"next": (1,)}, 1), 2, result, max_bad_observations=None)
    if sight.take(obs):
        assert np.isfinite(sight.stacked()["next"]).all()
    else:
        assert result.bad_observations == 1 and not sight.frames


@pytest.mark.parametrize("most", [1, 3, 10])
def test_the_run_ends_after_so_many_in_a_row(
    bench: Bench, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench.robot.before_observe = lambda seen: "missing" if seen >= 6 else None
    result = bench.run(1000, lead=1, max_bad_observations=most)
    assert (result.reason, result.bad_observations) == ("bad observations", most)
    assert result.ticks == 6 + most
    assert bench.robot.stops == 1
    assert f"the run ends: {most} bad observations in a row, the last: there is no" in caplog.text


def test_bad_ones_in_between_do_not_count_as_a_row(bench: Bench) -> None:
    bench.robot.before_observe = lambda seen: "missing" if seen % 3 else None
    result = bench.run(60, lead=1, max_bad_observations=3)
    assert (result.reason, result.bad_observations) == ("max_ticks", 40)


@pytest.mark.parametrize("every", [1, 2])
def test_a_sensor_that_fails_for_hours_fills_no_log(
    bench: Bench, every: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench.robot.before_observe = lambda seen: "missing" if seen > 5 and seen % every == 0 else None
    result = bench.run(1000, lead=1)
    assert result.bad_observations > 400
    messages = [r.getMessage() for r in caplog.records if "observation" in r.getMessage()]
    assert messages[0] == "bad observation at step 6: there is no new observation"
    assert any("(256 times so far)" in message for message in messages)
    assert len(messages) <= 2 * 10


def test_the_doublings() -> None:
    occasions = Occasions()
    said = [k for k in range(1, 100) if occasions.again()]
    assert said == [1, 2, 4, 8, 16, 32, 64]
    assert str(occasions) == " (99 times so far)"


def test_deadlines_that_are_always_missed_fill_no_log(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    result = bench.run(1000, delay=0.3, lead=0)
    assert result.deadline_misses > 100
    lines = [record for record in caplog.records if "deadline missed" in record.getMessage()]
    assert len(lines) == int(np.log2(result.deadline_misses)) + 1


def test_what_the_robot_raises_itself_ends_the_run_unless_it_is_bad_data(bench: Bench) -> None:
    def fail(seen: int) -> None:
        if seen == 3:
            raise InputError("the checksum is wrong")
        if seen == 6:
            raise TypeError("a mistake in the driver")

    bench.robot.before_observe = fail
    with pytest.raises(TypeError, match="a mistake in the driver"):
        bench.run(30, lead=1)
    assert bench.robot.stops == 1
    assert len(bench.robot.acted) == 6


# -- several tasks ---------------------------------------------------------------------------------


@pytest.fixture
def of_tasks(bench: Bench) -> Bench:
    bench.policy.spec = DataSpec({"next": (1,), "task": (2,)}, 1, tasks=("pick", "place"))
    return bench


def test_a_task_that_nobody_says_ends_the_run_before_anything_moves(of_tasks: Bench) -> None:
    # What lacks more than the task is a bad observation: the next one may have both.
    of_tasks.robot.before_observe = lambda seen: {} if seen == 0 else None
    with pytest.raises(InputError, match="nothing says which task.*--task NAME.* pick, place"):
        of_tasks.run(12)
    robot = of_tasks.robot
    assert (robot.seen, robot.acted, robot.stops) == (2, [], 1)


@pytest.mark.parametrize("late", [{"next": np.zeros(1)}, {"next": np.zeros(1), "task": None}])
def test_a_task_that_was_said_may_be_left_out_for_a_while(of_tasks: Bench, late: Any) -> None:
    said = {"next": np.zeros(1), "task": "place"}
    of_tasks.robot.before_observe = lambda seen: late if 3 <= seen < 5 else said
    result = of_tasks.run(12)
    assert (result.reason, result.bad_observations) == ("max_ticks", 2)
    told = Bench(policy=of_tasks.policy)
    told.policy.task = "pick"
    assert told.run(12).bad_observations == 0


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_is_no_observation_does_not_lack_the_task(of_tasks: Bench, bad: Any) -> None:
    result = ControlResult()
    sight = Sight(of_tasks.policy.spec, 2, result, max_bad_observations=None)
    assert not sight.take(bad)
    assert result.bad_observations == 1


# -- real robots ----------------------------------------------------------------------------------


class Real(Counter):
    simulated = False


def test_a_real_robot_needs_an_end_to_bad_observations() -> None:
    with pytest.raises(InputError, match=r"max_bad_observations is not set.*=20\)"):
        ControlLoop(Real(), Continues(), hz=20)
    ControlLoop(Real(), Continues(), hz=20, options=ControlOptions(max_bad_observations=20))
    ControlLoop(Real(), Continues(), hz=20, clock=SimulatedClock())
    ControlLoop(Counter(), Continues(), hz=20)


def test_a_real_robot_that_goes_blind_is_stopped() -> None:
    robot = Real()
    robot.before_observe = lambda seen: {} if seen >= 10 else None
    options = ControlOptions(lead=2, patience=0.9, max_bad_observations=5)
    result = ControlLoop(robot, Continues(), hz=100, options=options).run(10_000)
    assert (result.reason, result.ticks, robot.stops) == ("bad observations", 15, 1)


class Bus:
    """The methods of LeRobot's robots."""

    is_connected = True
    observation_features = {"a.pos": float}  # noqa: RUF012
    action_features = {"a.pos": float}  # noqa: RUF012

    def __init__(self, values: Any) -> None:
        self.values = values
        self.sent: list[Any] = []

    def get_observation(self) -> Any:
        if isinstance(self.values, threading.Event):
            assert self.values.wait(60)
            return {"a.pos": 1.0}
        return self.values

    def send_action(self, action: Any) -> None:
        self.sent.append(action)

    def disconnect(self) -> None:
        self.is_connected = False


@pytest.mark.parametrize("values", [{"a.pos": None}, {"a.pos": "?"}, {"a.pos": [1, 2]}, 5, None])
def test_what_a_lerobot_robot_cannot_read_is_bad_data(values: Any) -> None:
    with pytest.raises(InputError, match="robot"):
        LeRobotRobot(Bus(values)).observe()


def test_a_lerobot_robot_that_hangs_is_disconnected_without_another_question() -> None:
    release = threading.Event()
    bus = Bus(release)
    robot = LeRobotRobot(bus)
    hanging = threading.Thread(target=robot.observe, daemon=True)
    hanging.start()
    while not robot._calling:
        hanging.join(0.01)
    robot.stop()
    assert (bus.is_connected, bus.sent) == (False, [])
    release.set()
    hanging.join(60)
