"""An expert of a task in an environment of gymnasium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lfm_policy.collect import EXPERTS, CollectOptions, Demonstrator
from lfm_policy.collect.demonstrator import make_demonstrator
from lfm_policy.collect.episode import record_episode
from lfm_policy.errors import InputError


class Line(gym.Env[Any, Any]):
    """A point has to be moved beyond 1; ``says`` tells whether success is said or the end is."""

    observation_space = gym.spaces.Dict({"x": gym.spaces.Box(-9, 9, (1,), np.float32)})
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, says: bool = True) -> None:
        self.says = says

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 0, 1)
        return {"x": np.float32(self.x)}, {}

    def step(self, action: Any) -> Any:
        self.x = self.x + action
        beyond = bool(self.x > 1)
        info = {"is_success": beyond} if self.says else {}
        return {"x": np.float32(self.x)}, float(beyond), beyond, False, info


class LineExpert(Demonstrator):
    env_id = "tests/Line-v0"
    image_size = 32

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return np.array([0.3]) + self.generator.uniform(0, 0.1, 1)


class SilentExpert(LineExpert):
    version = 3

    def __init__(self, options: CollectOptions) -> None:
        super().__init__(options, says=False)


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EXPERTS, "_entries", {"Line": LineExpert, "Silent": SilentExpert})
    if LineExpert.env_id not in gym.registry:
        gym.register(LineExpert.env_id, Line, max_episode_steps=9)


@pytest.mark.parametrize("task", ["Line", "Silent"])
def test_an_episode(task: str) -> None:
    options = CollectOptions(task)
    expert = EXPERTS.get(task)(options)
    assert expert.max_steps == 9 and expert.env_args["env_name"] == "tests/Line-v0"
    demo = record_episode(expert, options, 5)
    assert demo is not None and demo.states is None
    assert demo.dones.tolist() == [0] * (len(demo.actions) - 1) + [1]
    again = record_episode(expert, options, 5)
    np.testing.assert_array_equal(demo.actions, again.actions)
    other = record_episode(expert, CollectOptions(task, seed=1), 5)
    assert not np.array_equal(demo.actions[:2], other.actions[:2])


def test_what_the_class_says_counts() -> None:
    assert CollectOptions("Line").image_size == 32
    assert CollectOptions("Line", image_size=64).facts()["image_size"] == 64
    assert CollectOptions("Silent").facts()["version"] == 3


def test_an_expert_has_options() -> None:
    options = CollectOptions("Line", expert_options={"says": False})
    assert make_demonstrator(options).env.unwrapped.says is False
    assert options.facts()["expert_options"] == {"says": False}
    assert "expert_options" not in CollectOptions("Line").facts()
    with pytest.raises(InputError, match="expert 'Silent' does not take this: .*'says'"):
        make_demonstrator(CollectOptions("Silent", expert_options={"says": False}))


@pytest.mark.parametrize("how", ["terminated", "truncated"])
def test_nothing_is_recorded_after_the_end(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Falling(Line):
        def step(self, action: Any) -> Any:
            obs, reward, solved, _, info = super().step(action)
            return obs, reward, solved or how == "terminated", how == "truncated", info

    expert = LineExpert(CollectOptions("Line"))
    assert record_episode(expert, expert.options, 5) is not None
    monkeypatch.setattr(expert, "env", gym.wrappers.TimeLimit(Falling(), 9))
    assert record_episode(expert, expert.options, 5) is None


def test_what_cannot_be_set_cannot_be_replayed() -> None:
    options = CollectOptions("Line", verify=True)
    with pytest.raises(InputError, match="without states cannot be replayed: leave --verify"):
        record_episode(LineExpert(options), options, 5)


def test_an_environment_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(LineExpert, "env_id", "tests/Lime-v0")
    with pytest.raises(InputError, match="environment 'tests/Lime-v0' cannot be created"):
        LineExpert(CollectOptions("Line"))
