"""The evaluation loop: every episode counted once, whatever runs beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig, rollout
from lfm_policy.policy import Policy

pytestmark = pytest.mark.simulator

pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")

CONFIG = RolloutConfig("lfm/PushT-v0", seed_start=200_000, max_episode_steps=40)


def test_results_do_not_depend_on_the_number_of_environments(policy: Policy) -> None:
    reference = rollout(policy, replace(CONFIG, num_envs=1), range(7))
    assert [result.episode for result in reference] == list(range(7))
    assert [result.seed for result in reference] == [200_000 + i for i in range(7)]
    assert len({result.max_reward for result in reference}) > 1
    for num_envs in (2, 3, 7, 32):
        assert rollout(policy, replace(CONFIG, num_envs=num_envs), range(7)) == reference
    assert rollout(policy, replace(CONFIG, num_envs=2, processes=True), range(7)) == reference


def test_an_episode_is_the_same_alone(policy: Policy) -> None:
    together = rollout(policy, CONFIG, range(4))
    assert rollout(policy, CONFIG, [2]) == [together[2]]


def test_other_noise_and_other_starts_change_results(policy: Policy) -> None:
    reference = rollout(policy, CONFIG, range(3))
    noise = rollout(policy, replace(CONFIG, noise_seed=1), range(3))
    starts = rollout(policy, replace(CONFIG, seed_start=300_000), range(3))
    assert [r.max_reward for r in noise] != [r.max_reward for r in reference]
    assert [r.max_reward for r in starts] != [r.max_reward for r in reference]


def test_truncation_is_at_the_configured_step(policy: Policy) -> None:
    results = rollout(policy, replace(CONFIG, max_episode_steps=13), range(2))
    assert [result.steps for result in results] == [13, 13]
    assert [result.chunks for result in results] == [2, 2]


class ScriptedEnv(gym.Env):
    """Seed s succeeds in step s. The reward is 0.1 s in step 2 and less in all others."""

    def __init__(self, render_mode: str | None = None, render_size: int = 64) -> None:
        shapes = {"agent_pos": 2, "block_pose": 4, "keypoints": 16}
        self.observation_space = spaces.Dict(
            {k: spaces.Box(-np.inf, np.inf, (n,), np.float32) for k, n in shapes.items()}
        )
        self.action_space = spaces.Box(0, 512, (2,), np.float32)
        self._seed = 0
        self._step = 0

    def _obs(self) -> dict[str, np.ndarray]:
        return {
            key: np.full(space.shape, self._step, dtype=np.float32)
            for key, space in self.observation_space.spaces.items()
        }

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        assert seed is not None
        self._seed, self._step = seed, 0
        return self._obs(), {"success": False, "coverage": 0.0}

    def step(self, action: Any) -> Any:
        self._step += 1
        peak = 0.1 * self._seed
        reward = peak if self._step == 2 else peak / (1 + self._step)
        success = self._step == self._seed
        info = {"success": success, "coverage": self._step / 100}
        return self._obs(), reward, success, False, info


@pytest.fixture()
def scripted(monkeypatch: pytest.MonkeyPatch) -> str:
    env_id = "lfm-test/Scripted-v0"
    if env_id not in gym.registry:
        gym.register(env_id, entry_point=ScriptedEnv, max_episode_steps=50)
    return env_id


def test_success_reward_and_coverage_are_read_correctly(policy: Policy, scripted: str) -> None:
    # Seed s succeeds in step s; its reward peaks in step 2 at 0.1 s and then falls.
    config = RolloutConfig(scripted, seed_start=3, max_episode_steps=20, num_envs=2)
    results = rollout(policy, config, range(20))
    for result in results:
        solved = result.seed <= 20
        assert result.success == solved
        assert result.steps == min(result.seed, 20)
        assert result.max_reward == pytest.approx(0.1 * result.seed)
        assert result.final_coverage == pytest.approx(result.steps / 100)
        assert result.chunks == -(-result.steps // policy.n_action_steps)


def test_missing_environment_observation_and_action_are_errors(policy: Policy) -> None:
    with pytest.raises(InputError, match="names no environment"):
        rollout(policy, replace(CONFIG, env_id=""), [0])
    with pytest.raises(InputError, match="cannot be created"):
        rollout(policy, replace(CONFIG, env_id="lfm/NoSuch-v0"), [0])
    with pytest.raises(InputError, match=r"'block_pose' +\(4,\) +- +<- not given"):
        rollout(policy, replace(CONFIG, env_id="lfm/PushTImage-v0"), [0])
    with pytest.raises(InputError, match="num_envs is 0"):
        rollout(policy, replace(CONFIG, num_envs=0), [0])


def test_no_episodes_give_no_results(policy: Policy) -> None:
    assert rollout(policy, CONFIG, []) == []


def test_history_is_filled_by_the_first_observation_and_then_moves(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    sample = policy.sample

    def spy(batch: dict, **kwargs: object) -> object:
        seen.append({key: np.array(value[0]) for key, value in batch.items()})
        return sample(batch, **kwargs)

    monkeypatch.setattr(policy, "sample", spy)
    rollout(policy, replace(CONFIG, max_episode_steps=20), [0])
    first, second = seen[0]["agent_pos"], seen[1]["agent_pos"]
    np.testing.assert_array_equal(first[0], first[1])
    assert not np.array_equal(second[0], second[1])
