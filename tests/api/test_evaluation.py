"""Evaluation in environments that are objects."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from lfm_policy import InputError, Policy, evaluate, export, load_policy
from lfm_policy.evaluation import NoSuccessReportedWarning


class Reach(gym.Env):
    observation_space = gym.spaces.Dict(
        {key: gym.spaces.Box(-9, 9, (2,), np.float64) for key in ("goal", "hand")}
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    closed = 0
    silent = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.hand, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self.observation(), {}

    def step(self, action: np.ndarray) -> Any:
        self.hand = self.hand + np.clip(action, -0.2, 0.2)
        distance = float(np.linalg.norm(self.goal - self.hand))
        info = {} if self.silent else {"success": distance < 0.3}
        return self.observation(), -distance, distance < 0.3, False, info

    def observation(self) -> Any:
        return {"goal": self.goal.copy(), "hand": self.hand.copy()}

    def close(self) -> None:
        type(self).closed += 1


QUIET: dict[str, Any] = {"episodes": 5, "max_episode_steps": 20, "quiet": True}


def test_an_object_gives_what_a_factory_and_an_id_give(policy: Policy) -> None:
    env = Reach()
    result = evaluate(policy, env, **QUIET)
    assert Reach.closed == 0 and result.n == 5 and result.env == "Reach"
    assert [e.seed for e in result.episodes] == [100_000 + i for i in range(5)]
    assert result.episodes == evaluate(policy, env, **QUIET).episodes
    for options in ({"num_envs": 3}, {"num_envs": 2, "processes": True}, {}):
        assert evaluate(policy, Reach, **options, **QUIET).episodes == result.episodes
    gym.register("test/Reach-v0", Reach, max_episode_steps=20)
    try:
        by_id = evaluate(policy, "test/Reach-v0", episodes=5, quiet=True)
        made = evaluate(policy, gym.make("test/Reach-v0"), episodes=5, quiet=True)
        assert by_id.episodes == made.episodes == result.episodes
        assert made.env == "test/Reach-v0"
    finally:
        del gym.registry["test/Reach-v0"]


def test_what_is_said(policy: Policy) -> None:
    result = evaluate(policy, Reach(), **QUIET)
    assert result.successes is not None and result.success == result.successes / 5
    low, high = result.success_interval or (1, 0)
    assert 0 <= low <= result.success <= high <= 1
    assert f"n = 5: success {result.successes}/5" in str(result)
    other = evaluate(policy, Reach(), seed_start=7, noise_seed=1, **QUIET)
    assert [e.seed for e in other.episodes] == [7, 8, 9, 10, 11]


def test_the_policy_keeps_its_sampler(policy: Policy) -> None:
    policy.set_sampler(nfe=8)
    try:
        assert evaluate(policy, Reach(), **QUIET).nfe == 8 and policy.nfe == 8
    finally:
        policy.set_sampler()
    assert evaluate(policy, Reach(), **QUIET).nfe == policy.nfe == 4


def test_policies_by_name_and_exports(policy: Policy, tmp_path: Any) -> None:
    from lfm_policy import OnnxPolicy

    folder = export(policy, tmp_path / "exported")
    expected = evaluate(policy, Reach(), **QUIET)
    for given in (policy.info["checkpoint"], folder, OnnxPolicy(folder)):
        result = evaluate(given, Reach(), **QUIET)
        assert [e.success for e in result.episodes] == [e.success for e in expected.episodes]


def test_as_many_actions_of_an_export_as_it_was_told(policy: Policy, tmp_path: Any) -> None:
    from lfm_policy import OnnxPolicy

    exported = OnnxPolicy(export(policy, tmp_path / "exported"))
    exported.n_action_steps = 1
    (episode,) = evaluate(exported, Reach(), episodes=1, quiet=True, max_episode_steps=6).episodes
    assert episode.chunks == episode.steps > 1


def test_endless_environments_end(policy: Policy) -> None:
    result = evaluate(policy, Reach(), episodes=2, quiet=True)
    assert all(e.steps <= policy.config.env.max_episode_steps for e in result.episodes)
    short = evaluate(policy, gym.wrappers.TimeLimit(Reach(), 3), episodes=2, quiet=True)
    assert all(e.steps <= 3 for e in short.episodes)


def test_no_success(policy: Policy) -> None:
    env = Reach()
    env.silent = True
    with pytest.warns(NoSuccessReportedWarning, match=r"info\['success'\]"):
        result = evaluate(policy, env, **QUIET)
    assert result.success is result.successes is result.success_interval is None
    assert "success not reported" in str(result)


class Flat(Reach):
    observation_space = gym.spaces.Box(-9, 9, (4,), np.float64)


class Other(Reach):
    observation_space = gym.spaces.Dict({"goal": gym.spaces.Box(-9, 9, (2,), np.float64)})


class Three(Reach):
    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (Flat(), {}, r"a name \(4,\)\nname its .*'goal=\[0, 2\]'"),
        (Other(), {}, r"'hand'  \(2,\)    -  +<- not given"),
        (Three(), {}, r"action +\(2,\) +\(3,\) +<- another size"),
        (Reach(), {"num_envs": 3}, "give a function that makes one"),
        (lambda: 3, {}, "env makes a int"),
        (3, {}, "env is a int"),
        ("", {}, "names no environment"),
        (Reach(), {"episodes": 0}, "episodes is 0"),
        (gym.vector.SyncVectorEnv([Reach]), {}, "vector environment"),
    ],
)
def test_bad_environments(policy: Policy, env: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(policy, env, **(QUIET | options))


@pytest.mark.simulator
def test_pusht_as_an_object_is_pusht_by_id() -> None:
    import lfm_envs  # noqa: F401  (registers it)

    policy = load_policy("pusht-state")
    by_id = evaluate(policy, episodes=3, quiet=True, max_episode_steps=60)
    env = gym.make("lfm/PushT-v0", max_episode_steps=60)
    given = evaluate(policy, env, episodes=3, quiet=True)
    assert given.episodes == by_id.episodes and given.env == by_id.env == "lfm/PushT-v0"
    env.reset(seed=0)  # it is still open
    env.close()
