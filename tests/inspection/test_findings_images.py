"""Warnings about cameras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.cameras import CameraFacts
from lfm_policy.inspection.finding import Finding
from lfm_policy.inspection.findings import find_black_episodes, find_frozen_camera
from lfm_policy.inspection.ranges import Ranges

Look = Callable[[ReplayBuffer], dict[str, CameraFacts]]
Values = Callable[[ReplayBuffer], tuple[ReplayBuffer, dict[str, Ranges]]]


@pytest.fixture
def frozen(look: Look, values: Values) -> Callable[..., list[Finding]]:
    def frozen(buffer: ReplayBuffer, **options: Any) -> list[Finding]:
        return find_frozen_camera("cam", look(buffer)["image"], *values(buffer), **options)

    return frozen


def freeze(buffer: ReplayBuffer, first: int, last: int) -> None:
    buffer.arrays["image"][first : last + 1] = buffer.arrays["image"][first]


def test_runs_are_reported_with_their_place(
    good: ReplayBuffer, frozen: Callable[..., list[Finding]]
) -> None:
    freeze(good, 40, 52)  # from the first step of episode 1
    freeze(good, 70, 91)  # to its last
    found = [(f.facts["episode"], f.facts["from"], f.facts["to"]) for f in frozen(good)]
    assert found == [(1, 0, 12), (1, 30, 51)]
    finding = frozen(good)[0]
    assert finding.kind == "frozen_camera" and finding.facts["key"] == "cam"
    assert "cam repeats one frame in episode 1, steps 0 to 12, while " in finding.message
    assert finding.facts["moving"].split("[")[0] in ("action", "position", "gripper")


def test_the_end_of_an_episode_ends_a_run(
    good: ReplayBuffer, frozen: Callable[..., list[Finding]]
) -> None:
    freeze(good, 32, 48)  # 8 frames of one and 9 of the next
    assert frozen(good) == []


@pytest.mark.parametrize(
    ("n_frames", "fps", "found"),
    [(9, None, 0), (10, None, 1), (14, 15, 0), (15, 15, 1), (4, 5, 0), (5, 5, 1)],
)
def test_how_long_is_frozen(
    good: ReplayBuffer,
    frozen: Callable[..., list[Finding]],
    n_frames: int,
    fps: float | None,
    found: int,
) -> None:
    freeze(good, 100, 100 + n_frames - 1)
    assert len(frozen(good, fps=fps)) == found


def test_a_robot_at_rest(good: ReplayBuffer, frozen: Callable[..., list[Finding]]) -> None:
    freeze(good, 100, 120)
    for key in ("action", "position", "gripper"):
        good.arrays[key][100:121] = good.arrays[key][100]
    assert frozen(good) == []
    good.arrays["clock"] = np.arange(good.n_steps, dtype=np.float64)[:, None]
    assert frozen(good) == []
    good.arrays["clock"] = np.concatenate([np.arange(n) for n in good.episode_lengths])[:, None]
    assert frozen(good) == []
    good.arrays["position"][110, 1] += 0.5
    (finding,) = frozen(good)
    assert finding.facts["moving"] == "position[1]"


def test_black_episodes(good: ReplayBuffer, look: Look) -> None:
    good.arrays["image"][40:92] = 0  # episode 1
    good.arrays["image"][92:120] = 0  # a part of episode 2
    good.arrays["image"][350:] = 10  # episode 7
    (finding,) = find_black_episodes("cam", look(good)["image"], good)
    assert finding.facts == {"key": "cam", "episodes": [1, 7]}
    assert "cam shows only black in 2 of 8 episodes: 1, 7" in finding.message


def test_black_episodes_are_not_frozen_as_well(
    good: ReplayBuffer, frozen: Callable[..., list[Finding]]
) -> None:
    good.arrays["image"][40:92] = 0
    assert frozen(good) == []


def test_episodes_that_were_not_looked_at(good: ReplayBuffer, look: Look, values: Values) -> None:
    part = ReplayBuffer({**good.arrays, "image": good.arrays["image"][:92]}, good.episode_ends)
    part.arrays["image"][:] = 0
    camera = look(part)["image"]
    (finding,) = find_black_episodes("cam", camera, part)
    assert finding.facts["episodes"] == [0, 1] and "2 of 2 episodes" in finding.message
    assert find_frozen_camera("cam", camera, *values(part)) == []
