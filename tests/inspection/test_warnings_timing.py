"""Warnings about actions out of step with states."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.finding import Finding
from lfm_policy.inspection.ranges import Ranges
from lfm_policy.inspection.warnings_timing import (
    SLOW_ARM_SECONDS,
    find_actions_out_of_step,
    lead_without_a_rate,
)

pytestmark = pytest.mark.slow

Values = Callable[[ReplayBuffer], tuple[ReplayBuffer, dict[str, Ranges]]]


def shifted(buffer: ReplayBuffer, steps: int) -> ReplayBuffer:
    """Return a buffer whose actions come ``steps`` rows later, within each episode."""
    action = buffer.arrays["action"].copy()
    for start, end in zip(buffer.episode_starts, buffer.episode_ends, strict=True):
        rows = np.clip(np.arange(start, end) - steps, start, end - 1)
        action[start:end] = buffer.arrays["action"][rows]
    return ReplayBuffer({**buffer.arrays, "action": action}, buffer.episode_ends)


def find(buffer: ReplayBuffer, values: Values, fps: float | None = None) -> list[Finding]:
    return find_actions_out_of_step(*values(buffer), fps=fps)


# The position reaches the target one step later: a lead of 1. A velocity is the next change of
# the position: a lead of 0.
@pytest.mark.parametrize("lead", range(-5, 6))
@pytest.mark.parametrize("velocities", [False, True])
def test_leads(
    good: ReplayBuffer,
    good_velocities: ReplayBuffer,
    values: Values,
    velocities: bool,
    lead: int,
) -> None:
    buffer = good_velocities if velocities else good
    findings = find(shifted(buffer, (0 if velocities else 1) - lead), values)
    if 0 <= lead <= 2:
        assert findings == []
        return
    (finding,) = findings
    assert finding.kind == "action_timing" and finding.facts["lead"] == lead
    assert [
        (pair["action_dimension"], pair["key"], pair["dimension"], pair["of"])
        for pair in finding.facts["pairs"]
    ] == [(d, "position", d, "change" if velocities else "value") for d in range(2)]
    assert all(abs(pair["correlation"]) > 0.9 for pair in finding.facts["pairs"])
    count = f"{abs(lead)} {'step' if abs(lead) == 1 else 'steps'}"
    verb = "lags behind" if lead < 0 else "leads"
    assert f"the action {verb} the state by {count}" in finding.message
    assert "expected is a lead of 0 to 2 steps" in finding.message
    assert f"to {'earlier' if lead < 0 else 'later'} rows" in finding.message


def test_a_known_rate_allows_a_longer_lead(good: ReplayBuffer, values: Values) -> None:
    slow = shifted(good, -3)  # a lead of 4
    assert len(find(slow, values)) == len(find(slow, values, fps=20)) == 1
    assert find(slow, values, fps=50) == []
    assert len(find(shifted(good, 3), values, fps=50)) == 1


def test_outliers_do_not_decide(good: ReplayBuffer, values: Values) -> None:
    wrong = shifted(good, 4)
    wrong.arrays["position"][[30, 200]] = 1e6
    (finding,) = find(wrong, values)
    assert finding.facts["lead"] == -3


def test_actions_that_track_nothing(good: ReplayBuffer, values: Values) -> None:
    noise = np.random.default_rng(0).normal(size=good.arrays["action"].shape)
    wrong = shifted(good, 4)
    assert find(ReplayBuffer({**wrong.arrays, "action": noise}, wrong.episode_ends), values) == []
    constant = np.ones_like(noise)
    assert (
        find(ReplayBuffer({**wrong.arrays, "action": constant}, wrong.episode_ends), values) == []
    )


def test_too_little_to_judge(good: ReplayBuffer, values: Values) -> None:
    wrong = shifted(good, 4)
    assert find(wrong.select_episodes([0, 1]), values) == []
    cut = ReplayBuffer(wrong.arrays, np.arange(8, wrong.n_steps + 1, 8))
    assert find(cut, values) == []
    without = {key: array for key, array in wrong.arrays.items() if key != "action"}
    assert find(ReplayBuffer(without, wrong.episode_ends), values) == []
    alone = {"action": wrong.arrays["action"]}
    assert find(ReplayBuffer(alone, wrong.episode_ends), values) == []


# -- arms with a delay ----------------------------------------------------------------------------

RATES = [10, 15, 30, 50]

FINE = 600
"""Steps per second of the simulation."""


def follow(
    hz: int, *, dead: float, tau: float, seed: int = 0, episodes: int = 8, seconds: float = 12.0
) -> ReplayBuffer:
    """Return demonstrations of an arm of three joints that somebody moves from point to point.

    Args:
        hz: rows per second: ``position`` is read, then ``action`` is sent and held.
        dead: seconds until a command begins to have an effect.
        tau: time constant of the first-order response after that, in seconds.
        seed: of the motion and the noise.
        episodes: number of episodes.
        seconds: length of each.
    """
    generator = np.random.default_rng(seed)
    actions, positions = [], []
    for _ in range(episodes):
        command = _commands(generator, round(seconds * hz), hz)
        fine = np.arange(round(seconds * FINE)) / FINE
        sent = np.floor((fine - dead) * hz + 1e-9).astype(int)
        held = command[np.clip(sent, 0, len(command) - 1)]
        position = np.empty_like(held)
        position[0] = command[0]
        share = 1 - np.exp(-1 / (FINE * tau))
        for i in range(1, len(held)):
            position[i] = position[i - 1] + share * (held[i - 1] - position[i - 1])
        rows = (np.arange(len(command)) * FINE / hz).round().astype(int)
        actions.append(command)
        positions.append(position[rows] + generator.normal(scale=1e-3, size=command.shape))
    return ReplayBuffer(
        {
            "action": np.concatenate(actions).astype(np.float32),
            "position": np.concatenate(positions).astype(np.float32),
        },
        np.cumsum([len(action) for action in actions]),
    )


def _commands(generator: np.random.Generator, n: int, hz: int) -> np.ndarray:
    """Return smooth motions between points, with pauses, and a hand that trembles a little."""
    ends = np.cumsum(generator.uniform(0.6, 2.0, size=60))
    points = generator.uniform(-1, 1, size=(61, 3))
    points[4::4] = points[3::4][: len(points[4::4])]
    time = np.arange(n) / hz
    k = np.searchsorted(ends, time)
    begins = np.concatenate([[0.0], ends])
    share = (time - begins[k]) / (ends[k] - begins[k])
    share = share**3 * (10 - 15 * share + 6 * share**2)
    path = points[k] + (points[k + 1] - points[k]) * share[:, None]
    return path + generator.normal(scale=2e-3, size=path.shape)


def ranges_of(buffer: ReplayBuffer) -> dict[str, Ranges]:
    return {key: Ranges.of(array) for key, array in buffer.arrays.items()}


def judge(buffer: ReplayBuffer, fps: float | None) -> list[Finding]:
    return find_actions_out_of_step(buffer, ranges_of(buffer), fps=fps)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(RATES),
    st.floats(0.02, 0.1),
    st.floats(0.05, 0.12),
    st.booleans(),
    st.integers(0, 1000),
)
def test_ordinary_arms_are_not_warned_of(
    hz: int, dead: float, tau: float, known: bool, seed: int
) -> None:
    buffer = follow(hz, dead=dead, tau=tau, seed=seed, episodes=4)
    assert judge(buffer, hz if known else None) == []


@pytest.mark.parametrize("hz", RATES)
def test_actions_in_earlier_rows_than_any_arm_explains(hz: int) -> None:
    moved = round(0.4 * hz)
    (finding,) = judge(shifted(follow(hz, dead=0.05, tau=0.1), -moved), hz)
    expected = moved + 0.15 * hz
    last = math.ceil(SLOW_ARM_SECONDS * hz)
    most = last + 5
    assert min(expected - 1, most) <= finding.facts["lead"] <= min(expected + 1.5, most)
    assert not finding.facts["exact"] and len(finding.facts["pairs"]) == 3
    assert f"expected is a lead of 0 to {last} steps (0.3 s)" in finding.message
    for text in (
        "Either the controller is that slow: then nothing is wrong.",
        "Or the actions were written into earlier rows than those in which they were sent",
        "Send the robot a single command and see how long it takes to follow",
        "move the actions by the difference to later rows",
    ):
        assert text in finding.message


@pytest.mark.parametrize("hz", RATES)
def test_actions_in_later_rows_than_what_they_cause(hz: int) -> None:
    for fps in (hz, None):
        (finding,) = judge(shifted(follow(hz, dead=0.05, tau=0.1), round(0.3 * hz) + 1), fps)
        assert finding.facts["lead"] < 0
        assert "no command comes after what it causes" in finding.message
        assert "to earlier rows" in finding.message


def test_a_rate_that_is_not_known() -> None:
    slow = follow(10, dead=0.05, tau=0.1)
    assert lead_without_a_rate(slow, ranges_of(slow)) == ""
    moved = shifted(slow, -4)  # 0.55 s, which would be 0.11 s at 50 steps per second
    assert judge(moved, None) == [] and len(judge(moved, 10)) == 1
    note = lead_without_a_rate(moved, ranges_of(moved))
    assert "the action leads the state by 6 steps (action[0] with position[0]" in note
    assert "from 20 steps per second on" in note
    far = shifted(follow(30, dead=0.05, tau=0.1), -15)
    (finding,) = judge(far, None)
    assert "expected is a lead of 0 to 15 steps (0.3 s at 50 per second)" in finding.message
    assert lead_without_a_rate(far, ranges_of(far)) == ""


@pytest.mark.parametrize(("hz", "last"), [(10, 2), (30, 3), (50, 5)])
def test_states_that_repeat_actions_exactly(hz: int, last: int) -> None:
    action = follow(hz, dead=0.05, tau=0.1).arrays["action"]
    ends = np.arange(1, 9) * (len(action) // 8)
    for lead in range(last + 3):
        position = np.roll(action, lead, axis=0)
        buffer = ReplayBuffer({"action": action, "position": position}, ends)
        found = judge(buffer, hz)
        if lead <= last:
            assert found == []
            continue
        (finding,) = found
        assert (finding.facts["lead"], finding.facts["exact"]) == (lead, True)
        assert "is repeated by it to the last digit" in finding.message
        assert f"move the actions by {lead - 1} steps to later rows" in finding.message


def test_one_slow_joint_is_no_recording_that_is_wrong() -> None:
    """Rows that are moved are so in all dimensions."""
    buffer, slow = follow(20, dead=0.05, tau=0.1), follow(20, dead=0.3, tau=0.25)
    buffer.arrays["position"][:, 2] = slow.arrays["position"][:, 2]
    np.testing.assert_array_equal(buffer.arrays["action"][:, 0], slow.arrays["action"][:, 0])
    assert judge(buffer, 20) == []
    (finding,) = judge(slow, 20)
    assert len(finding.facts["pairs"]) == 3


def test_switches_are_passed_over() -> None:
    """A gripper that is told to open leads by as long as it takes to open."""
    steps = np.arange(8 * 240)
    closed = (steps // 60 % 2)[:, None].astype(np.float32)
    width = np.roll(closed, 9, axis=0)
    buffer = ReplayBuffer({"action": closed, "width": width}, np.arange(1, 9) * 240)
    assert judge(buffer, 20) == []
