"""Warnings about actions out of step with states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.finding import Finding
from lfm_policy.inspection.ranges import Ranges
from lfm_policy.inspection.warnings_timing import find_actions_out_of_step

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
