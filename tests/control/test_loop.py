"""Delays, holding, and what never reaches the robot."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lfm_runtime.errors import InputError

from .conftest import Bench, Continues, Counter


def planned(acted: list[float]) -> list[float]:
    """What was executed, without the repetitions of a robot that stands still."""
    return [value for k, value in enumerate(acted) if k == 0 or value != acted[k - 1]]


@pytest.mark.parametrize("joining", ["replace", "ensemble", "prefix"])
@pytest.mark.parametrize(("delay", "lead"), [(0.0, 1), (0.05, 1), (0.1, 1), (0.2, 2), (0.2, 3)])
def test_no_action_is_skipped_or_repeated_whatever_the_delay(
    bench: Bench, joining: str, delay: float, lead: int
) -> None:
    result = bench.run(delay=delay, lead=lead, joining=joining)
    assert bench.robot.acted == [float(k) for k in range(len(bench.robot.acted))]
    assert result.deadline_misses == 0
    assert result.steps == len(bench.robot.acted) == result.ticks - result.waiting


def test_the_delay_of_a_chunk_is_what_was_consumed_meanwhile(bench: Bench) -> None:
    taken = {0: 0.2, 1: 0.0, 2: 0.1, 3: 0.3, 4: 0.15}
    result = bench.run(delay=lambda k: taken.get(k, 0.0), lead=4, execute=8)
    # The robot stands still during the first one, so nothing is consumed.
    assert result.delays[:5] == [0, 0, 1, 3, 2]
    assert result.seconds[:5] == pytest.approx([0.2, 0.0, 0.1, 0.3, 0.15])
    assert planned(bench.robot.acted) == bench.robot.acted


def test_a_slow_first_call_changes_nothing_later() -> None:
    runs = []
    for first in (0.0, 0.65):
        bench = Bench()
        result = bench.run(60, delay=lambda k, first=first: first if k == 0 else 0.1, lead=2)
        runs.append((bench.robot.acted[:40], result.delays[1:10], result.deadline_misses))
    assert runs[0] == runs[1]


def test_nothing_is_skipped_while_the_robot_stands_still(bench: Bench) -> None:
    result = bench.run(delay=0.3, lead=0)
    assert planned(bench.robot.acted) == [float(k) for k in range(result.steps)]
    assert result.held > 0
    assert set(result.delays) == {0}
    assert len(bench.robot.acted) == result.steps + result.held


def test_the_first_observation_fills_the_history(bench: Bench) -> None:
    bench.run(1)
    np.testing.assert_array_equal(bench.policy.calls[0]["next"], np.zeros((1, 2, 1)))


def test_the_history_is_one_tick_apart(bench: Bench) -> None:
    bench.run(20, lead=1)
    for call in bench.policy.calls[1:]:
        old, new = call["next"][0, :, 0]
        assert new - old == 1


def test_the_policy_is_reset_once_per_run(bench: Bench) -> None:
    bench.run(10)
    assert bench.policy.resets == 1
    bench.robot = Counter()
    bench.run(10)
    assert bench.policy.resets == 2


def test_the_run_ends_when_the_robot_is_done(bench: Bench) -> None:
    bench.robot.ends_at = 7
    result = bench.run(100)
    assert result.reason == "done"
    assert bench.robot.acted[-1] == 7


def test_prefixes_are_the_actions_that_follow(bench: Bench) -> None:
    bench.run(30, delay=0.2, lead=2, joining="prefix")
    assert bench.policy.prefixes[0] == []
    assert bench.policy.prefixes[1:4] == [[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]


def test_with_prefixes_chunks_that_disagree_join_without_a_jump() -> None:
    largest = {}
    for joining in ("replace", "prefix"):
        bench = Bench(policy=Continues(shift=5.0))
        bench.run(40, delay=0.2, lead=2, joining=joining)
        largest[joining] = max(abs(b - a) for a, b in pairwise(bench.robot.acted))
    assert largest["prefix"] == 1
    assert largest["replace"] > 5


def test_a_delay_beyond_the_prefix_is_waited_for_without_a_jump() -> None:
    bench = Bench(policy=Continues(shift=5.0))
    result = bench.run(40, delay=0.4, lead=2, joining="prefix")
    assert result.held > 0
    assert max(abs(b - a) for a, b in pairwise(bench.robot.acted)) == 1


# -- missed deadlines ---------------------------------------------------------------------------


def test_holding_repeats_the_last_action(bench: Bench) -> None:
    result = bench.run(delay=lambda k: 0.5 if k == 1 else 0.0, lead=1)
    assert bench.robot.acted[:9] == [0, 1, 2, 3, 3, 3, 3, 3, 4]
    assert (result.deadline_misses, result.held) == (1, 4)


def test_holding_can_be_another_action(bench: Bench) -> None:
    bench.run(12, delay=lambda k: 0.3 if k == 1 else 0.0, lead=1, hold_action=[-1.0])
    assert bench.robot.acted[4] == -1


def test_continuing_executes_the_rest_of_the_chunk_and_then_holds(bench: Bench) -> None:
    result = bench.run(12, delay=lambda k: 99.0 if k == 1 else 0.0, lead=1, on_miss="continue")
    assert bench.robot.acted == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7]
    assert (result.deadline_misses, result.continued, result.held) == (1, 4, 4)


def test_actions_executed_past_the_deadline_count_as_consumed(bench: Bench) -> None:
    result = bench.run(20, delay=lambda k: 0.3 if k == 1 else 0.0, lead=1, on_miss="continue")
    assert bench.robot.acted == [float(k) for k in range(20)]
    assert result.delays[1] == 3


def test_stopping_ends_the_run(bench: Bench) -> None:
    result = bench.run(delay=lambda k: 0.5 if k == 1 else 0.0, lead=1, on_miss="stop")
    assert result.reason == "deadline"
    assert bench.robot.acted == [0, 1, 2, 3]
    assert bench.robot.stops == 1


def test_missed_deadlines_are_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lfm_runtime.control")
    bench.run(30, delay=lambda k: 0.5 if k == 1 else 0.0, lead=1)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "deadline missed at step 4: hold",
        "a chunk came 4 ticks late, going on at step 4",
    ]


def test_a_chunk_that_comes_within_the_patience_is_in_time(bench: Bench) -> None:
    result = bench.run(20, delay=0.04, lead=0, patience=0.5)
    assert (result.deadline_misses, result.held, result.waiting) == (0, 0, 0)
    bench.robot = Counter()
    result = bench.run(20, delay=0.06, lead=0, patience=0.5)
    assert result.held > 0


def test_ticks_that_take_too_long_are_counted(bench: Bench) -> None:
    bench.robot.before_observe = lambda seen: bench.clock.advance(0.25 if seen == 5 else 0)
    result = bench.run(20)
    assert result.late_ticks == 1
    assert bench.robot.acted == [float(k) for k in range(20)]


def test_on_miss_continue_needs_actions_that_are_not_executed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "lfm_runtime.control")
    Bench().run(5, on_miss="continue")
    assert not caplog.records
    Bench().run(5, on_miss="continue", execute=8)
    (record,) = caplog.records
    assert "all 8 actions that a chunk has here are executed" in record.message


# -- staleness ----------------------------------------------------------------------------------


def test_chunks_that_always_come_too_late_are_said(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lfm_runtime.control")
    result = bench.run(60, delay=0.6, max_staleness=0.5)
    assert (result.steps, result.waiting) == (0, 60)
    said = [record.message for record in caplog.records]
    assert len(said) == 4 and said[0].startswith("a chunk came 0.6 s after its observation and")
    assert "max_staleness is 0.5 s" in said[0] and said[-1].endswith("(8 times so far)")


def test_actions_on_old_observations_are_not_executed(bench: Bench) -> None:
    result = bench.run(
        14, delay=lambda k: 0.0 if k == 0 else 99.0, lead=1, on_miss="continue", max_staleness=0.45
    )
    # The observation of the only chunk is 0.5 s old in the sixth tick.
    assert planned(bench.robot.acted) == [0, 1, 2, 3, 4]
    assert result.held == 9


def test_a_chunk_that_is_stale_when_it_comes_is_asked_for_again(bench: Bench) -> None:
    result = bench.run(30, delay=lambda k: 1.0 if k == 0 else 0.0, max_staleness=0.5)
    assert result.waiting == 10
    assert planned(bench.robot.acted) == bench.robot.acted


# -- bad observations ---------------------------------------------------------------------------

BAD = {
    "missing": "missing",
    "incomplete": {},
    "NaN": {"next": np.array([np.nan])},
    "infinite": {"next": np.array([np.inf])},
    "misshapen": {"next": np.zeros(3)},
    "no numbers": {"next": np.array(["a"])},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_observations_never_reach_policy_or_robot(bench: Bench, bad: Any) -> None:
    bench.robot.before_observe = lambda seen: bad if seen in (0, 1, 6, 7, 8) else None
    result = bench.run(30, lead=1)  # the policy refuses what is not finite itself
    assert result.bad_observations == 5
    assert np.isfinite(bench.robot.acted).all()
    assert planned(bench.robot.acted) == [float(k) for k in range(result.steps)]
    assert result.waiting == 2


def test_without_observations_the_robot_never_moves(bench: Bench) -> None:
    bench.robot.before_observe = lambda seen: "missing"
    result = bench.run(20)
    assert bench.robot.acted == []
    assert (result.waiting, bench.robot.stops) == (20, 1)


def test_when_observations_fail_for_good_the_robot_holds(bench: Bench) -> None:
    bench.robot.before_observe = lambda seen: "missing" if seen > 5 else None
    result = bench.run(30, lead=1, on_miss="continue")
    assert set(bench.robot.acted[-10:]) == {bench.robot.acted[-1]}
    assert result.deadline_misses == 1


# -- actions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_actions_that_are_not_finite_never_reach_the_robot(bench: Bench, value: float) -> None:
    sample = bench.policy.sample

    def broken(batch: Any) -> Any:
        sampled = sample(batch)
        if len(bench.policy.calls) == 3:
            sampled.chunk[0, 5] = value
        return sampled

    bench.policy.sample = broken
    with pytest.raises(FloatingPointError, match="not finite"):
        bench.run(30)
    assert bench.robot.acted == [float(k) for k in range(8)]
    assert bench.robot.stops == 1


def test_a_chunk_of_another_shape_is_refused(bench: Bench) -> None:
    bench.policy.spec = type(bench.policy.spec)({"next": (1,)}, 2)
    with pytest.raises(InputError, match=r"chunk of shape \(8, 1\), expected \(n, 2\)"):
        bench.run(30)
    assert bench.robot.stops == 1


def test_policies_without_whole_chunks_are_asked_for_what_they_have(bench: Bench) -> None:
    class Short:
        spec, n_obs_steps, n_action_steps = bench.policy.spec, 2, 4

        def reset(self) -> None:
            pass

        def predict_action_chunk(self, batch: Any) -> np.ndarray:
            return batch["next"][:, -1:] + np.arange(4)[None, :, None]

    bench.policy = Short()
    result = bench.run(20, delay=0.1, lead=1, on_miss="continue")
    assert bench.robot.acted == [float(k) for k in range(result.steps)]


def test_the_rate_that_was_kept_is_counted(bench: Bench) -> None:
    assert bench.run(20).rate == pytest.approx(10)
    bench.robot.before_observe = lambda seen: bench.clock.advance(0.25)
    bench.robot.stops = 0
    slow = bench.run(20)
    assert slow.rate == pytest.approx(4) and slow.late_ticks == 20
    bench.robot.stops = 0
    assert bench.run(1).rate == 0


def test_where_the_robot_is_may_be_what_only_it_knows(bench: Bench) -> None:
    """The change of the first action is measured from there; nothing is recorded of it."""
    at = {"next": np.array([7.0]), "at": np.array([2.0])}
    bench.robot.obs_keys = ("next", "at")
    bench.robot.before_observe = lambda seen: at
    bench.run(2, position_key="at", max_change=1.5)
    assert bench.robot.acted == [3.5, 5.0]
    bench.robot.before_observe, bench.robot.stops = (lambda seen: at | {"at": np.zeros(3)}), 0
    with pytest.raises(InputError, match=r"position_key is 'at', which has shape \(3,\)"):
        bench.run(2, position_key="at")
