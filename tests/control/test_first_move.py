"""The first move, from wherever the robot is, and runs that tell it nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lfm_policy.control import load_recording
from lfm_runtime.control import ControlOptions, Recorder
from lfm_runtime.errors import InputError
from lfm_runtime.policy.spec import DataSpec

from .conftest import Bench, Sampled


class Arm:
    """Is where it was told to be; begins at 0."""

    simulated = True

    def __init__(self) -> None:
        self.q, self.acted, self.stops = 0.0, list[float](), 0

    def observe(self) -> Mapping[str, Any]:
        return {"q": np.array([self.q])}

    def act(self, action: np.ndarray) -> None:
        self.q = float(action[0])
        self.acted.append(self.q)

    def stop(self) -> None:
        self.stops += 1


class StartsAtTen:
    """Demonstrations began at 10: whoever is below is sent there, and all others go on by 1."""

    n_obs_steps, n_action_steps, horizon, max_prefix = 1, 4, 8, 0

    def __init__(self) -> None:
        self.spec = DataSpec({"q": (1,)}, 1)
        self.asked: list[float] = []

    def reset(self) -> None:
        self.asked.clear()

    def sample(self, batch: Mapping[str, np.ndarray]) -> Sampled:
        q = float(batch["q"][0, -1, 0])
        self.asked.append(q)
        first = q + 1 if q >= 10 else 10.0
        return Sampled((first + np.arange(8, dtype=np.float32))[None, :, None])

    def predict_action_chunk(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        raise AssertionError("a policy with whole chunks is asked for these")


@pytest.fixture
def arm() -> Bench:
    return Bench(robot=Arm(), policy=StartsAtTen())


def test_the_first_move_is_a_line_and_then_the_policy_is_asked_anew(arm: Bench) -> None:
    result = arm.run(12, position_key="q", first_move=0.5)
    assert arm.robot.acted == [2, 4, 6, 8, 10, 11, 12, 13, 14, 15, 16, 17]
    assert arm.policy.asked == [0, 10, 14]
    assert (result.approached, result.steps, result.deadline_misses, result.held) == (5, 7, 0, 0)
    assert arm.robot.stops == 1


def test_without_it_the_first_action_is_where_the_policy_says(arm: Bench) -> None:
    arm.run(3, position_key="q")
    assert arm.robot.acted == [10, 11, 12]


def test_a_slow_policy_holds_the_robot_at_the_end_of_the_move(arm: Bench) -> None:
    result = arm.run(12, delay=0.3, position_key="q", first_move=0.2, on_miss="stop")
    # Asked at tick 0, answered at 3; moves for 2 ticks; asked from there at 5, answered at 8.
    assert arm.robot.acted[:7] == [5, 10, 10, 10, 10, 11, 12]
    assert result.waiting == 3 and result.approached == 5 and result.deadline_misses == 0


def test_what_was_asked_on_the_way_is_not_executed(arm: Bench) -> None:
    # Chunks are too old after 0.2 seconds, so the policy is asked on the way too.
    arm.run(12, delay=0.1, position_key="q", first_move=0.5, max_staleness=0.25)
    acted = arm.robot.acted
    assert acted[acted.index(10) :][:3] == [10, 10, 11]
    assert all(abs(b - a) <= 2 for a, b in zip(acted, acted[1:], strict=False))


@pytest.mark.parametrize("max_change", [1.0, 1.5])
def test_limits_hold_on_the_way(arm: Bench, max_change: float) -> None:
    result = arm.run(20, position_key="q", first_move=0.2, max_change=max_change, high=9.0)
    acted = arm.robot.acted
    steps = np.diff([0.0, *acted])
    assert steps.max() <= max_change and max(acted) == 9.0
    assert result.approached == np.ceil(9 / max_change)


def test_a_dry_run_tells_the_robot_nothing(arm: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lfm_runtime.control"):
        result = arm.run(6, position_key="q", dry_run=True, max_change=4.0)
    assert arm.robot.acted == [] and arm.robot.stops == 1
    said = [r.message for r in caplog.records if "would be told" in r.message]
    assert said[:2] == ["step 0: would be told [4.]", "step 1: would be told [8.]"]
    assert result.steps == 6


def test_recordings_know_the_first_move(arm: Bench, tmp_path: Path) -> None:
    with Recorder(tmp_path / "run.zarr", {"hz": 10}, wait=True) as recorder:
        arm.run(8, recorder=recorder, position_key="q", first_move=0.3)
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    assert episode.steps["kind"].tolist() == [3, 3, 3, 0, 0, 0, 0, 0]
    summary = episode.summary()
    assert summary["deadline_misses"] == summary["held"] == 0 and summary["actions"] == 8
    assert np.isfinite(episode.step_times(4)).all()


def test_bad_options() -> None:
    with pytest.raises(InputError, match=r"first_move is 2.0, which needs position_key"):
        ControlOptions(first_move=2.0)
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="expected a positive number of seconds"):
            ControlOptions(first_move=seconds, position_key="q")
