"""Each defect is found, and nothing else; good data give no warning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import load_zarr
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.findings import find_all
from lfm_policy.inspection.ranges import Ranges

Find = Callable[..., list[Finding]]


def constant(buffer: ReplayBuffer) -> ReplayBuffer:
    buffer.arrays["position"][:, 1] = 0.25
    return buffer


def outlier(buffer: ReplayBuffer) -> ReplayBuffer:
    buffer.arrays["position"][100, 0] = 50.0
    return buffer


def duplicate_episodes(buffer: ReplayBuffer) -> ReplayBuffer:
    return buffer.select_episodes([0, 1, 2, 3, 4, 5, 6, 7, 3])


def short_episodes(buffer: ReplayBuffer) -> ReplayBuffer:
    ends = np.concatenate([[12], buffer.episode_ends])  # the first is cut in two
    return replace(buffer, episode_ends=ends)


def frozen_camera(buffer: ReplayBuffer) -> ReplayBuffer:
    buffer.arrays["image"][110:130] = buffer.arrays["image"][110]
    return buffer


def black_images(buffer: ReplayBuffer) -> ReplayBuffer:
    buffer.arrays["image"][40:92] = 3
    return buffer


def action_timing(buffer: ReplayBuffer) -> ReplayBuffer:
    for start, end in zip(buffer.episode_starts, buffer.episode_ends, strict=True):
        action = buffer.arrays["action"][start:end]
        action[3:] = action[:-3].copy()
    return buffer


DEFECTS = (
    constant,
    outlier,
    duplicate_episodes,
    short_episodes,
    frozen_camera,
    black_images,
    action_timing,
)


@pytest.mark.parametrize("fps", [None, 10.0])
def test_good_data(
    good: ReplayBuffer, good_velocities: ReplayBuffer, find: Find, fps: float | None
) -> None:
    assert find(good, fps=fps) == []
    assert find(good_velocities, fps=fps) == []


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
@pytest.mark.parametrize("kind", ["good", "good_velocities"])
def test_each_defect_is_found_and_nothing_else(
    request: pytest.FixtureRequest, find: Find, kind: str, defect: Any
) -> None:
    findings = find(defect(request.getfixturevalue(kind)))
    assert {finding.kind for finding in findings} == {defect.__name__}
    for finding in findings:
        assert "\n" not in finding.message and ": " in finding.message
        assert finding.to_dict() == {
            "kind": finding.kind,
            "message": finding.message,
            **finding.facts,
        }


def test_human_demonstrations(pusht_zarr: Path) -> None:
    buffer = load_zarr(pusht_zarr, ("action", "state", "keypoint", "n_contacts"))
    ranges = {key: Ranges.of(array) for key, array in buffer.arrays.items()}
    assert find_all(buffer, ranges, {})[0] == []
    assert find_all(buffer, ranges, {}, fps=10.0)[0] == []


def test_place() -> None:
    buffer = ReplayBuffer({"action": np.zeros((7, 2))}, np.array([3, 7]))
    assert [buffer.place(step) for step in (0, 2, 3, 6)] == [(0, 0), (0, 2), (1, 0), (1, 3)]


def test_listed() -> None:
    assert listed([1, 2, 3], 3) == "1, 2, 3"
    assert listed([1, 2, 3, 4, 5], 3) == "1, 2, 3 and 2 more"
