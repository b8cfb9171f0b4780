"""Limits between the policy and the robot, and options that contradict one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

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


def test_the_way_back_into_the_bounds_is_no_jump() -> None:
    allowed, _ = limits(low=0.0, high=1.0, max_change=0.5).apply(
        np.zeros(2, dtype=np.float32), np.array([3.0, 0.2])
    )
    np.testing.assert_allclose(allowed, [2.5, 0.0])


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
