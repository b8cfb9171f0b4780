from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfm_policy.collect import CollectOptions
from lfm_policy.collect.demonstrator import Observation
from lfm_policy.collect.episode import record_episode, replays

_OPTIONS = CollectOptions("Lift")


class _Line:
    """A point that has to be moved beyond 1; the demonstrator moves by 0.25 a step."""

    env_args: dict[str, Any] = {}  # noqa: RUF012
    max_steps = 20
    tail = (2, 2)

    def __init__(self, stride: float = 0.25, *, forgets: bool = False) -> None:
        self._stride, self._forgets = stride, forgets
        self.x = 0.0

    def start(self, seed: int, generator: np.random.Generator) -> Observation:
        self._generator = generator
        self.x = 0.0
        return self._observe()

    def restart(self, scene: dict[str, Any]) -> Observation:
        self.x = -5.0 if self._forgets else float(scene["states"][0])
        return self._observe()

    def scene(self) -> dict[str, Any]:
        return {"states": np.array([self.x]), "model": "<xml/>"}

    def act(self, obs: Observation) -> np.ndarray:
        return np.array([self._stride + 1e-3 * self._generator.random()])

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        self.x += float(action[0])
        return self._observe(), float(self.x > 1), self.x > 1

    def close(self) -> None:
        pass

    def _observe(self) -> Observation:
        return {"x": np.array([self.x], dtype=np.float32)}


class _Careless(_Line):
    """Returns everything in the same arrays, and writes into whatever it gets."""

    def __init__(self) -> None:
        super().__init__()
        self._seen, self._state = np.zeros(1, np.float32), np.zeros(1)

    def scene(self) -> dict[str, Any]:
        self._state[:] = self.x
        return {"states": self._state, "model": "<xml/>"}

    def act(self, obs: Observation) -> np.ndarray:
        obs["x"][:] = 50.0
        return super().act(obs)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool]:
        result = super().step(action)
        action[:] = 50.0
        return result

    def _observe(self) -> Observation:
        self._seen[:] = self.x
        return {"x": self._seen}


def test_a_demo_does_not_depend_on_who_writes_into_its_arrays() -> None:
    demo, careless = (record_episode(one, _OPTIONS, seed=7) for one in (_Line(), _Careless()))
    assert demo is not None and careless is not None
    np.testing.assert_array_equal(careless.actions, demo.actions)
    np.testing.assert_array_equal(careless.obs["x"], demo.obs["x"])
    np.testing.assert_array_equal(careless.states, demo.states)


def test_a_demo_has_what_was_seen_before_every_action() -> None:
    demo = record_episode(_Line(), _OPTIONS, seed=7)
    assert demo is not None and demo.states is not None
    positions = np.concatenate([[0.0], np.cumsum(demo.actions)])
    np.testing.assert_allclose(demo.states[:, 0], positions[:-1])
    np.testing.assert_allclose(demo.obs["x"][:, 0], positions[:-1], rtol=1e-6)
    np.testing.assert_array_equal(demo.rewards, positions[1:] > 1)
    np.testing.assert_array_equal(demo.dones, positions[1:] > 1)
    assert demo.attributes == {"seed": 7}
    assert demo.model_file == "<xml/>"


def test_a_demo_goes_on_for_a_while_after_success() -> None:
    demo = record_episode(_Line(), _OPTIONS, seed=0)
    assert demo is not None
    assert demo.rewards.sum() == 3


def test_a_failure_gives_no_demo() -> None:
    assert record_episode(_Line(stride=0.01), _OPTIONS, seed=0) is None


def test_seeds_determine_a_demo() -> None:
    demos = [record_episode(_Line(), CollectOptions("Lift", seed=s), seed=3) for s in (0, 0, 1)]
    assert all(demo is not None for demo in demos)
    first, second, other = (demo.actions for demo in demos if demo is not None)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_demo_that_does_not_replay_is_dropped() -> None:
    verify = CollectOptions("Lift", verify=True)
    assert record_episode(_Line(), verify, seed=0) is not None
    assert record_episode(_Line(forgets=True), verify, seed=0) is None


def test_replays_needs_states() -> None:
    demo = record_episode(_Line(), _OPTIONS, seed=0)
    assert demo is not None
    object.__setattr__(demo, "states", None)
    with pytest.raises(ValueError, match="states"):
        replays(_Line(), demo)
