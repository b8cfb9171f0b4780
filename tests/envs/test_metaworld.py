"""Meta-World's tasks: observations by name, starts that a seed determines, success that ends."""

from __future__ import annotations

import gymnasium as gym
import lfm_envs
import numpy as np
import pytest
from lfm_envs.metaworld.tasks import MT10, MT50

pytest.importorskip("metaworld")
pytestmark = pytest.mark.simulator

SOME = ("reach-v3", "door-open-v3", "stick-pull-v3")


def made(task: str, **options: object) -> gym.Env:
    return lfm_envs.make_named_env(f"lfm/MetaWorld-{task}", "", options)


def test_all_tasks_of_metaworld_are_there() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3

    assert tuple(MT10_V3) == MT10
    assert sorted(ALL_V3_ENVIRONMENTS) == sorted(MT50)
    for task in MT50:
        assert f"lfm/MetaWorld-{task}" in gym.registry
        assert f"lfm/MetaWorldImage-{task}" in gym.registry


@pytest.mark.parametrize("task", SOME)
def test_an_episode_depends_on_its_seed_alone(task: str) -> None:
    env = made(task)
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 4))

    def played(seed: int) -> list[np.ndarray]:
        obs, _ = env.reset(seed=seed)
        steps = [obs, *(env.step(action)[0] for action in actions)]
        return [np.concatenate([frame[key] for key in sorted(frame)]) for frame in steps]

    first, other, again = played(5), played(6), played(5)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], other[0])
    fresh = made(task)
    obs, _ = fresh.reset(seed=5)
    np.testing.assert_array_equal(first[0], np.concatenate([obs[key] for key in sorted(obs)]))


def test_observations_are_the_frame_of_metaworld_and_the_goal_is_seen() -> None:
    env = made("push-v3")
    obs, info = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert info["success"] is False
    for _ in range(3):
        obs, *_ = env.step(np.zeros(4))
    state = env.unwrapped.state
    assert np.any(obs["goal"])
    np.testing.assert_allclose(np.concatenate([obs["hand"], obs["objects"]]), state[:18])
    np.testing.assert_allclose(obs["goal"], state[36:])


def test_the_hand_may_start_elsewhere() -> None:
    env = made("reach-v3")
    here, _ = env.reset(seed=3)
    there, _ = env.reset(seed=3, options={"hand": [0.05, 0.0, 0.05]})
    np.testing.assert_array_equal(here["goal"], there["goal"])
    np.testing.assert_allclose(there["hand"][:3] - here["hand"][:3], [0.05, 0, 0.05], atol=0.01)


def test_success_ends_an_episode() -> None:
    from metaworld.policies import ENV_POLICY_MAP

    env, expert = made("reach-v3"), ENV_POLICY_MAP["reach-v3"]()
    env.reset(seed=0)
    for _ in range(150):
        action = np.clip(expert.get_action(env.unwrapped.state), -1, 1)
        _, _, terminated, _, info = env.step(action)
        assert terminated == info["success"]
        if terminated:
            return
    raise AssertionError("the expert did not reach")


def test_wrong_arguments_are_refused() -> None:
    from lfm_envs.metaworld.env import MetaWorldEnv

    with pytest.raises(ValueError, match="there is no task 'reach'"):
        MetaWorldEnv("reach")
    with pytest.raises(ValueError, match="there is no camera 'front'"):
        MetaWorldEnv("reach-v3", cameras=["front"])
    env = made("reach-v3")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="4 finite numbers"):
        env.step([0, 0, 0])


def test_cameras_draw() -> None:
    env = lfm_envs.make_named_env("lfm/MetaWorldImage-reach-v3", "", {"image_size": 32})
    try:
        obs, _ = env.reset(seed=0)
    except lfm_envs.MissingSimulatorError as error:
        pytest.skip(str(error))
    image = obs["corner4_image"]
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    assert image.std() > 10
    moved, *_ = env.step([1, 1, -1, 1])
    for _ in range(10):
        moved, *_ = env.step([1, 1, -1, 1])
    assert np.any(moved["corner4_image"] != image)
    env.close()
