"""Warnings about single dimensions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.finding import Finding
from lfm_policy.inspection.findings import (
    find_constant_dimensions,
    find_far_numbers,
    find_outliers,
)
from lfm_policy.inspection.ranges import Ranges

Values = Callable[[ReplayBuffer], tuple[ReplayBuffer, dict[str, Ranges]]]


def test_constant_dimensions(good: ReplayBuffer, values: Values) -> None:
    buffer, _ = values(good)
    buffer.arrays["position"][:, 1] = 0.25
    buffer.arrays["action"][:, 0] = 1 + 4e-5 * np.sin(np.arange(buffer.n_steps))
    buffer.arrays["rest"] = np.zeros((buffer.n_steps, 3, 2))
    findings = find_constant_dimensions(values(buffer)[1])
    assert [finding.facts["key"] for finding in findings] == ["action", "position", "rest"]
    assert [finding.facts["dimensions"] for finding in findings] == [[0], [1], list(range(6))]
    assert findings[1].facts["values"] == [0.25]
    assert "position[1] never changes (always 0.25)" in findings[1].message
    assert "leave rest out" in findings[2].message


def outliers(buffer: ReplayBuffer, values: Values) -> list[Finding]:
    return find_outliers(*values(buffer))


def test_outliers(good: ReplayBuffer, values: Values) -> None:
    good.arrays["position"][[100, 101], 0] = (-40.0, 50.0)
    (finding,) = outliers(good, values)
    stats = values(good)[1]["position"]
    assert finding.facts == {
        "key": "position",
        "dimension": 0,
        "count": 2,
        "q01": stats.q01[0],
        "q99": stats.q99[0],
        "worst": 50.0,
        "episode": 2,
        "step": 101 - 92,
    }
    assert "position[0] has 2 values far outside" in finding.message
    assert "the worst is 50 in episode 2, step 9" in finding.message


@pytest.mark.parametrize(("widths", "count"), [(2.9, 0), (3.1, 1)])
def test_far_outside_is_three_widths(
    good: ReplayBuffer, values: Values, widths: float, count: int
) -> None:
    stats = values(good)[1]["position"]
    # the value itself hardly moves the quantiles of 392 steps when it replaces one beyond them
    step = int(np.argmax(good.arrays["position"][:, 1]))
    good.arrays["position"][step, 1] = stats.q99[1] + widths * stats.width[1]
    assert len(outliers(good, values)) == count


def test_rare_switches_are_no_outliers(good: ReplayBuffer, values: Values) -> None:
    good.arrays["gripper"][:] = 0
    good.arrays["gripper"][[50, 200]] = 1
    assert outliers(good, values) == []


def test_far_numbers(good: ReplayBuffer, values: Values) -> None:
    """Clocks and maps in float64, and what float32 has left of them."""
    assert find_far_numbers(*values(good)) == []
    wave = 0.05 * np.sin(np.arange(good.n_steps))
    good.arrays["map"] = np.stack([wave, wave + 4.2e6], axis=1)
    good.arrays["lost"] = (good.arrays["map"] + [0, 0.25]).astype(np.float32)
    good.arrays["clock"] = (1.7e9 + 0.1 * np.arange(good.n_steps))[:, None]
    good.arrays["ticks"] = (2**40 + np.arange(good.n_steps))[:, None]
    findings = {finding.facts["key"]: finding for finding in find_far_numbers(*values(good))}
    kinds = {key: (finding.kind, finding.facts["dimensions"]) for key, finding in findings.items()}
    assert kinds == {
        "map": ("far", [1]),
        "lost": ("coarse", [1]),
        "clock": ("far", [0]),
        "ticks": ("far", [0]),
    }
    assert (
        "map[1] goes from 4199999.95 to 4200000.05, 0 steps of float32" in findings["map"].message
    )
    assert "lost[1] was stored in float32" in findings["lost"].message
