"""Foreign code may write into whatever it is given, and into what it gave: nothing comes of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lfm_policy.control import GymRobot, load_recording
from lfm_policy.data.zarr.store import load_zarr
from lfm_runtime.control import Recorder, SimulatedClock
from lfm_runtime.control.recording.zarr_writer import TableWriter
from lfm_runtime.control.result import ChunkRecord, StepRecord
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import DataSpec

from .conftest import Bench, Continues, Counter, Sampled

RUBBISH = 97.5


class Scribbler(Counter):
    """Writes into its actions, at once and later, and shows the same array every time."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[np.ndarray] = []
        self.shown = np.zeros(1)

    def observe(self) -> Mapping[str, Any]:
        for action in self.kept:
            action[:] = RUBBISH
        obs = super().observe()
        assert obs is not None
        self.shown[:] = obs["next"]
        return {"next": self.shown}

    def act(self, action: np.ndarray) -> None:
        super().act(action)
        action[:] = RUBBISH
        self.kept.append(action)
        self.shown[:] = RUBBISH


class ScribblingPolicy(Continues):
    """Writes into its observations and prefixes, and returns the same array every time."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = np.zeros((1, self.horizon, 1), dtype=np.float32)

    def sample(self, batch: Mapping[str, np.ndarray], *, prefix: Any = None) -> Sampled:
        assert (batch["next"] != RUBBISH).all()
        self.buffer[:] = super().sample(batch, prefix=prefix).chunk
        batch["next"][:] = RUBBISH
        if prefix is not None:
            prefix[:] = RUBBISH
        return Sampled(self.buffer)


class ScribblingRecorder(Recorder):
    """Writes into every record."""

    def step(self, record: StepRecord) -> None:
        super().step(record)
        record.action[:] = RUBBISH
        for value in record.obs.values():
            value[:] = RUBBISH

    def chunk(self, record: ChunkRecord) -> None:
        super().chunk(record)
        record.actions[:] = RUBBISH


@pytest.mark.parametrize("joining", ["replace", "ensemble", "prefix"])
def test_nobody_who_writes_into_arrays_reaches_the_next_action(
    tmp_path: Path, joining: str
) -> None:
    plain, hostile = Bench(), Bench(robot=Scribbler(), policy=ScribblingPolicy())
    plain.run(40, delay=0.1, lead=2, joining=joining)
    with ScribblingRecorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        hostile.run(40, delay=0.1, lead=2, joining=joining, recorder=recorder)
    assert hostile.robot.acted == plain.robot.acted
    (episode,) = load_recording(tmp_path / "run.zarr").episodes
    np.testing.assert_array_equal(episode.action[:, 0], plain.robot.acted)
    assert (episode.chunks["action"] != RUBBISH).all()
    observed = load_zarr(tmp_path / "run.zarr", ["next"]).arrays["next"]
    np.testing.assert_array_equal(observed[1:, 0], np.asarray(plain.robot.acted[:-1]) + 1)


def test_a_robot_that_writes_into_its_action_stays_within_the_limits() -> None:
    bench = Bench(robot=Scribbler(), policy=Continues(shift=50.0))
    result = bench.run(200, lead=1, high=10.0, max_change=1.5, hold_action=[0.0])
    assert max(bench.robot.acted) <= 10
    assert np.abs(np.diff(bench.robot.acted)).max() <= 1.5
    assert result.limited > 0


def test_what_is_held_is_the_robots_last_action_and_not_what_became_of_it() -> None:
    bench = Bench(robot=Scribbler())
    bench.run(9, delay=lambda k: 0.5 if k == 1 else 0.0, lead=1)
    assert bench.robot.acted == [0, 1, 2, 3, 3, 3, 3, 3, 4]


def test_a_recorder_writes_what_it_was_given_when_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_given, append = threading.Event(), TableWriter.append

    def late(self: TableWriter, row: dict[str, Any]) -> None:
        assert all_given.wait(60)
        append(self, row)

    monkeypatch.setattr(TableWriter, "append", late)
    action, camera = np.zeros(2, np.float32), np.zeros((4, 4, 3), np.uint8)
    with Recorder(tmp_path / "run.zarr", {"hz": 10}) as recorder:
        for k in range(5):
            action[:], camera[:] = k, k
            record = StepRecord(
                *(k / 10, k / 10, action, {"camera": camera}, 0, k, 0),
                limited=False,
                obs_valid=True,
            )
            recorder.step(record)
        all_given.set()
    stored = load_zarr(tmp_path / "run.zarr", ["action", "camera"]).arrays
    np.testing.assert_array_equal(stored["action"][:, 0], range(5))
    np.testing.assert_array_equal(stored["camera"][:, 0, 0, 0], range(5))


class Restless(gym.Env[Any, Any]):
    """Adds the action to its state, in one array for ever, and spoils the action."""

    observation_space = gym.spaces.Dict({"next": gym.spaces.Box(-np.inf, np.inf, (1,))})
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,))

    def __init__(self) -> None:
        self.state = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state[:] = 0
        return {"next": self.state}, {}

    def step(self, action: Any) -> Any:
        self.state += action
        action[:] = RUBBISH
        return {"next": self.state}, 0.0, False, False, {}


def test_an_environment_that_spoils_actions_and_reuses_observations() -> None:
    clock, env = SimulatedClock(), Restless()
    robot = GymRobot(env, hz=10, clock=clock, keep_observations=True)
    robot.observe()["next"][:] = RUBBISH
    robot.act(np.ones(1))
    clock.sleep_until(0.4)
    assert robot.observe()["next"] == 4
    np.testing.assert_array_equal(np.concatenate(robot.actions), [1, 1, 1, 1])
    assert [float(obs["next"][0]) for obs in robot.observations] == [0, 1, 2, 3]


class OneBuffer(ChunkPolicy):
    """Computes every chunk in the same array."""

    def __init__(self) -> None:
        super().__init__(DataSpec({"state": (1,)}, 1), n_obs_steps=1, horizon=4, n_action_steps=3)
        self.buffer = np.zeros((1, 3, 1), np.float32)

    def predict_action_chunk(self, batch: Mapping[str, Any]) -> np.ndarray:
        self.buffer[0, :, 0] = batch["state"][0, -1, 0] + np.arange(3)
        return self.buffer

    def _actions_of_history(self, frames: Any) -> np.ndarray:
        return self.predict_action_chunk({"state": frames[-1].obs["state"][None, None]})[0]

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(1), np.ones(1)


def test_queued_actions_are_nobodys_buffer() -> None:
    policy = OneBuffer()
    first = policy.select_action({"state": np.zeros(1)})
    policy.buffer[:] = RUBBISH
    first[:] = RUBBISH
    assert policy.select_action({"state": np.zeros(1)}) == 1
