"""Limits between the policy and the robot, and options that contradict one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_runtime.control import ControlLoop, ControlOptions
from lfm_runtime.control.safety import ActionLimits
from lfm_runtime.errors import InputError

from .conftest import Bench


def limits(**options: Any) -> ActionLimits:
    return ActionLimits(ControlOptions(**options), 2)


def test_without_limits_an_action_stays_as_it_is() -> None:
    allowed, limited = limits().apply(np.array([1e6, -1e6], dtype=np.float32), np.zeros(2))
    np.testing.assert_array_equal(allowed, [1e6, -1e6])
    assert not limited


@pytest.mark.parametrize(
    ("options", "action", "expected"),
    [
        ({"low": 0.0, "high": 1.0}, [-1, 2], [0, 1]),
        ({"low": [0.0, -5.0], "high": [1.0, 5.0]}, [-1, 2], [0, 2]),
        ({"max_change": 0.5}, [2, 0.75], [0.5, 0.5]),
        ({"max_change": [0.5, 2.0]}, [2, 2], [0.5, 2]),
        ({"low": 0.0, "high": 1.0, "max_change": 0.25}, [-1, 9], [0, 0.25]),
    ],
)
def test_actions_are_clipped(options: Any, action: list[float], expected: list[float]) -> None:
    allowed, limited = limits(**options).apply(np.array(action, dtype=np.float32), np.zeros(2))
    np.testing.assert_allclose(allowed, expected)
    assert allowed.dtype == np.float32
    assert limited


@pytest.mark.parametrize("spike", [3.0, 1e6, 3e38])
def test_from_outside_of_the_bounds_the_change_is_measured_from_the_nearest_within(
    spike: float,
) -> None:
    """Be it a robot that starts there or one wrong number of a sensor: no action is outside."""
    allowed, limited = limits(low=0.0, high=1.0, max_change=0.25).apply(
        np.zeros(2, dtype=np.float32), np.array([spike, -spike])
    )
    np.testing.assert_array_equal(allowed, [0.75, 0.0])
    assert limited


NUMBERS = st.one_of(
    st.floats(-10, 10, width=32),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@given(
    bounds=st.tuples(NUMBERS, NUMBERS).map(sorted),
    max_change=st.none() | st.floats(2**-100, 2.0**100, width=32),
    action=NUMBERS,
    previous=st.none() | NUMBERS,
)
def test_what_leaves_is_within_the_bounds_and_near_the_one_before(
    bounds: list[float], max_change: float | None, action: float, previous: float | None
) -> None:
    low, high = bounds
    allowed, limited = ActionLimits(
        ControlOptions(low=low, high=high, max_change=max_change), 1
    ).apply(np.float32([action]), None if previous is None else np.float32([previous]))
    assert allowed.dtype == np.float32
    told = float(allowed[0])
    assert low <= told <= high
    assert limited == (told != action)
    if max_change is None or previous is None:
        assert told == min(max(action, low), high)
    else:
        centre = min(max(previous, low), high)
        # float32 has no numbers between two neighbours, but the limit is never passed.
        assert abs(told - centre) <= max_change
        if low <= action <= high and abs(action - centre) <= max_change:
            assert told == action


@given(previous=NUMBERS, action=NUMBERS, max_change=st.floats(2**-20, 2.0**20, width=32))
def test_without_bounds_nothing_overflows(
    previous: float, action: float, max_change: float
) -> None:
    allowed, _ = ActionLimits(ControlOptions(max_change=max_change), 1).apply(
        np.float32([action]), np.float32([previous])
    )
    assert np.isfinite(allowed).all()
    assert abs(float(allowed[0]) - previous) <= max_change


@pytest.mark.parametrize("name", ["low", "high", "max_change"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300, -1e300, 3.5e38, [0.5, np.inf]])
def test_limits_that_float32_cannot_hold_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} is .*, expected finite float32 numbers"):
        limits(**{name: value})


def test_bounds_that_cross_once_they_are_float32_are_one_point_or_refused() -> None:
    assert limits(low=0.1, high=0.1).apply(np.zeros(2), None)[0].tolist() == [np.float32(0.1)] * 2
    with pytest.raises(InputError, match="exceeds"):
        limits(low=np.nextafter(np.float32(1), np.float32(2)), high=1.0)


def test_a_caller_who_changes_the_limits_later_changes_nothing() -> None:
    high = np.array([1.0, 1.0])
    given = limits(high=high)
    high[:] = 100.0
    np.testing.assert_array_equal(given.apply(np.float32([5, 5]), None)[0], [1, 1])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_position_that_is_not_finite_moves_nothing(value: float) -> None:
    with pytest.raises(FloatingPointError, match="position .* not finite"):
        limits(max_change=1.0).apply(np.zeros(2), np.array([0.0, value]))
    with pytest.raises(FloatingPointError, match="action .* not finite"):
        limits(low=0.0, high=1.0).apply(np.array([0.0, value]), None)


@pytest.mark.parametrize(
    ("hold_action", "message"),
    [
        ([0.0], "hold_action has 1 numbers, expected 2"),
        (0.0, "hold_action is 0.0, expected 2 numbers"),
        ([[0.0, 0.0]], "expected 2 numbers"),
        ([0.0, [1.0]], "expected 2 numbers"),
        ([0.0, np.nan], "hold_action is"),
        ([0.0, np.inf], "finite float32 numbers"),
        (["a", "b"], "expected numbers"),
        ([0.0, 1.5], "hold_action is .*, expected numbers within low and high"),
    ],
)
def test_an_action_to_hold_with_is_checked_at_the_start(hold_action: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        limits(hold_action=hold_action, low=-1.0, high=1.0)


def test_the_action_to_hold_with_is_reached_without_a_jump(bench: Bench) -> None:
    result = bench.run(
        12, delay=lambda k: 0.5 if k == 1 else 0.0, lead=1, hold_action=[-1.0], max_change=1.5
    )
    assert bench.robot.acted[3:8] == [3.0, 1.5, 0.0, -1.0, -1.0]
    assert result.limited >= 2


def test_the_first_change_is_free_unless_the_position_is_known() -> None:
    action = np.array([7.0, 7.0], dtype=np.float32)
    assert limits(max_change=1.0).apply(action, None)[1] is False


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(FloatingPointError):
        limits(low=0.0, high=1.0).apply(np.array([0.0, value], dtype=np.float32), None)


def test_the_robot_moves_no_faster_than_allowed(bench: Bench) -> None:
    bench.policy.shift = 100.0
    result = bench.run(60, lead=1, max_change=2.0)
    assert np.abs(np.diff(bench.robot.acted)).max() <= 2
    assert result.limited > 0


def test_the_first_change_is_measured_from_the_position(bench: Bench) -> None:
    bench.robot.before_observe = lambda seen: {"next": np.array([50.0])} if seen == 0 else None
    bench.policy.shift = 3.0
    bench.policy.calls.append({})
    bench.run(1, max_change=1.0, position_key="next")
    assert bench.robot.acted == [51.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 1.0, "high": 0.0}, "exceeds"),
        ({"low": [1.0]}, "one number or 2"),
        ({"max_change": 1e-60}, "positive"),
        ({"high": float("nan")}, "one number or 2"),
        ({"max_change": 0.0}, "positive"),
        ({"low": "a"}, "expected numbers"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        limits(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"joining": "average"}, "joining is 'average', expected one of replace"),
        ({"on_miss": "panic"}, "on_miss is 'panic'"),
        ({"execute": 0}, "execute is 0"),
        ({"lead": -1}, "lead is -1"),
        ({"patience": 1.0}, "patience is 1.0"),
        ({"max_staleness": 0.0}, "max_staleness is 0.0"),
        ({"hang_timeout": 0.0}, "hang_timeout is 0.0"),
        ({"hang_timeout": float("inf")}, "hang_timeout is inf"),
        ({"max_bad_observations": 0}, "max_bad_observations is 0"),
        ({"on_policy_change": "ignore"}, "on_policy_change is 'ignore', expected one of stop"),
    ],
)
def test_options_out_of_range_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ControlOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"execute": 9}, "execute is 9, expected at most 8"),
        ({"lead": 4}, "lead is 4, expected less than execute = 4"),
        ({"hold_action": [0.0, 0.0]}, "hold_action has 2 numbers, expected 1"),
        ({"position_key": "where"}, "position_key is 'where'"),
        ({"joining": "prefix", "execute": 8, "lead": 5}, "policy.max_prefix=5"),
    ],
)
def test_options_that_do_not_fit_the_policy_are_refused(
    bench: Bench, options: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        bench.run(1, **options)
    assert bench.robot.seen == 0


@pytest.mark.parametrize("hz", [0, -1, float("nan"), 1e9])
def test_a_rate_must_be_one(bench: Bench, hz: float) -> None:
    with pytest.raises(InputError, match="hz is"):
        ControlLoop(bench.robot, bench.policy, hz=hz)
