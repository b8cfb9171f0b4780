"""What environments say of themselves."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import lfm_envs
import numpy as np
import pytest
from lfm_envs import ENVIRONMENTS, Environment

from lfm_runtime.errors import InputError


class Still(gym.Env[Any, Any]):
    """Nothing moves."""

    observation_space = gym.spaces.Dict({"x": gym.spaces.Box(0, 1, (1,), np.float32)})
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"x": np.zeros(1, np.float32)}, {}


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENVIRONMENTS, "_entries", dict(ENVIRONMENTS._entries))
    monkeypatch.setattr(ENVIRONMENTS, "_plugins", {})
    monkeypatch.setattr(gym.envs.registration, "registry", gym.registry)
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def test_what_is_added_is_made_by_gymnasium() -> None:
    ENVIRONMENTS.add("my/Still-v0", Environment(Still, 7, prefers_processes=True))
    assert gym.spec("my/Still-v0").max_episode_steps == 7
    assert isinstance(gym.make("my/Still-v0").unwrapped, Still)
    assert lfm_envs.prefers_processes("my/Still-v0")
    assert lfm_envs.prefers_processes("any_module:my/Still-v0")
    assert lfm_envs.env_id_of({"env_name": "my/Still-v0", "type": 2}) == "my/Still-v0"


def test_ids_that_are_taken() -> None:
    with pytest.raises(InputError, match="environment 'lfm/PushT-v0' is there already"):
        ENVIRONMENTS.add("lfm/PushT-v0", Environment(Still, 7))
    with pytest.raises(InputError, match="'CartPole-v1' is registered with gymnasium already"):
        ENVIRONMENTS.add("CartPole-v1", Environment(Still, 7))


def test_slow_simulators_are_those_of_robosuite() -> None:
    slow = {env_id for env_id in ENVIRONMENTS if lfm_envs.prefers_processes(env_id)}
    assert {"lfm/Lift-v0", "lfm/TransportImage-v0", "lfm/Robosuite-v0"} <= slow
    assert not {"lfm/PushT-v0", "lfm/PushTImage-v0", "CartPole-v1"} & slow
