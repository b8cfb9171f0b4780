"""Recorded actions executed again, in the environment that they were recorded in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from lfm_envs import ENVIRONMENTS, Environment

from lfm_policy.cli.main import main
from lfm_policy.control.recording import outcome_attribute
from lfm_runtime.control import Recorder

from .conftest import Bench

NAME = "test/Counting-v0"


class Counting(gym.Env):
    """Adds up actions; observes an array, and says nothing of success but by its end."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    seeds: ClassVar[list[int]] = []

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.total = 0.0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.total += self.factor * float(action[0])
        return np.zeros(3, np.float32), self.total, self.total > 50, False, {}


@pytest.fixture(scope="module", autouse=True)
def counting() -> None:
    ENVIRONMENTS.add(NAME, Environment(Counting, 100))


def recorded(path: Path, environment: dict[str, Any] | None) -> Path:
    facts = {"hz": 10} if environment is None else {"hz": 10, "environment": environment}
    with Recorder(path, facts) as recorder:
        Bench().run(8, recorder=recorder)
    return path


def again(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["replay", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["again"]


def test_an_environment_without_names_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(recorded(tmp_path / "run.zarr", None))
    found = again(capsys, path, "--env", NAME)
    assert found == {"steps": 8, "success": None, "max_reward": sum(range(8))}
    found = again(capsys, path, "--env", NAME, "--env-option", "factor=2", "--seed", "3")
    assert found["max_reward"] == 2 * sum(range(8))
    found = again(capsys, path, "--env", NAME, "--env-option", "factor=9", "--success=terminated")
    assert found["success"] is True and found["steps"] == 4


def test_the_recorded_environment_is_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {
        "id": NAME,
        "options": {"factor": 9.0},
        "observations": {"hand": [0, 3]},
        "success": "terminated",
    }
    path = str(recorded(tmp_path / "run.zarr", environment))
    for where in (["--env"], ["--env", NAME]):
        found = again(capsys, path, *where)
        assert found == {"steps": 4, "success": True, "max_reward": 9 * (1 + 2 + 3)}
    assert again(capsys, path, "--env", "--env-option", "factor=1")["steps"] == 8
    assert again(capsys, path) is None


def test_each_episode_has_the_seed_that_it_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.zarr"
    with Recorder(path, {"hz": 10, "seed_start": 200}) as recorder:
        Bench().run(8, recorder=recorder)
        recorder.note(outcome_attribute(0), {"seed": 207})  # of episodes before, nothing was kept
    assert again(capsys, str(path), "--env", NAME)["max_reward"] == sum(range(8))
    assert Counting.seeds[-1] == 207
    again(capsys, str(path), "--env", NAME, "--seed", "5")
    assert Counting.seeds[-1] == 5


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (None, "does not say which environment it is of; name it: --env ID"),
        ({"factor": 9}, ".zattrs, environment: unknown key 'env.factor'"),
        ([1], ".zattrs, environment: env: found [1], expected keys and values: id"),
    ],
)
def test_recordings_that_do_not_say_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], environment: Any, message: str
) -> None:
    path = str(recorded(tmp_path / "run.zarr", environment))
    assert main(["replay", path, "--env"]) == 2
    assert message in capsys.readouterr().err
