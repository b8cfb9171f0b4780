"""Successful rollouts kept as demonstrations: what is stored can be done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lfm_policy.errors import InputError
from lfm_policy.evaluation import RolloutConfig, recording
from lfm_policy.evaluation.rollouts import EpisodeResult, rollout
from lfm_policy.policy import Policy

pytestmark = pytest.mark.simulator

pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")

CONFIG = RolloutConfig("lfm/PushT-v0", seed_start=300_000, max_episode_steps=21, num_envs=3)


@pytest.fixture()
def every_second_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def decided(*args: Any, **options: Any) -> list[EpisodeResult]:
        results: Sequence[EpisodeResult] = rollout(*args, **options)
        return [replace(result, success=result.episode % 2 == 1) for result in results]

    monkeypatch.setattr(recording, "rollout", decided)


def test_recorded_actions_lead_to_the_recorded_states(
    policy: Policy, every_second_succeeds: None
) -> None:
    buffer, seeds = recording.record_successes(
        policy, CONFIG, n_successes=2, max_episodes=6, quiet=True
    )
    assert seeds == [300_001, 300_003]
    assert list(buffer.episode_ends) == [21, 42]
    state, action = buffer.arrays["state"], buffer.arrays["action"]
    assert state.shape == (42, 5) and action.shape == (42, 2)
    assert state.dtype == action.dtype == np.float32

    import gymnasium as gym

    env = gym.make(CONFIG.env_id)
    for episode, seed in enumerate(seeds):
        env.reset(seed=seed)
        for step in range(21 * episode, 21 * (episode + 1)):
            np.testing.assert_allclose(env.unwrapped.state, state[step], rtol=1e-6)  # type: ignore[attr-defined]
            env.step(action[step])
    env.close()


def test_too_few_successes_are_an_error(policy: Policy, every_second_succeeds: None) -> None:
    with pytest.raises(InputError, match="2 of 4 episodes succeeded, expected 5"):
        recording.record_successes(policy, CONFIG, n_successes=5, max_episodes=4, quiet=True)
