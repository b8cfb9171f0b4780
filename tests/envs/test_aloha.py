"""ALOHA: what it observes and takes, that it is gym-aloha, and a policy from data to success."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import lfm_envs
import numpy as np
import pytest
from lfm_envs import MissingSimulatorError
from lfm_envs.aloha import AlohaEnv

pytestmark = pytest.mark.simulator

pytest.importorskip("gym_aloha", reason="gym-aloha is not installed: pip install lfm-policy[aloha]")
pytest.importorskip("dm_control", reason="dm_control is not installed: lfm-policy[aloha]")


@pytest.fixture(params=["transfer_cube", "insertion"])
def env(request: pytest.FixtureRequest) -> Iterator[AlohaEnv]:
    env = AlohaEnv(request.param)
    yield env
    env.close()


def test_what_is_observed_and_what_an_action_is(env: AlohaEnv) -> None:
    obs, info = env.reset(seed=5)
    assert env.observation_space.contains(obs)
    assert info == {"success": False}
    assert env.action_space.contains(obs["state"])  # they begin within the bounds
    assert env.action_space.low[[6, 13]].tolist() == [0, 0]
    following, reward, terminated, truncated, info = env.step(obs["state"])
    assert env.observation_space.contains(following)
    assert (reward, terminated, truncated, info) == (0.0, False, False, {"success": False})
    target = obs["state"].copy()
    target[1] += 0.2  # the left shoulder
    for _ in range(40):
        following, *_ = env.step(target)
    moved = np.abs(following["state"] - obs["state"])
    assert moved[1] > 0.1
    assert moved[7:].max() < 0.05  # the right arm stays


def test_episodes_depend_on_their_seed_alone(env: AlohaEnv) -> None:
    def episode(seed: int | None) -> list[np.ndarray]:
        obs, _ = env.reset(seed=seed)
        seen = [obs["environment_state"]]
        rng = np.random.default_rng(0)
        for _ in range(5):
            obs, *_ = env.step(obs["state"] + rng.normal(0, 0.1, 14))
            seen.append(np.concatenate([obs["state"], obs["environment_state"]]))
        return seen

    first, other, again = episode(3), episode(4), episode(3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(episode(None)[0], episode(None)[0])


def test_a_cube_in_the_left_gripper_and_off_the_table_is_success() -> None:
    env = AlohaEnv("transfer_cube")
    obs, _ = env.reset(seed=0)
    physics = env._simulator._env.physics
    finger = physics.named.data.geom_xpos["vx300s_left/10_left_gripper_finger"]
    physics.named.data.qpos[-7:-4] = finger
    obs, reward, terminated, _, info = env.step(obs["state"])
    assert (reward, terminated, info) == (4.0, True, {"success": True})


@pytest.mark.parametrize("action", [np.zeros(13), np.full(14, np.nan), np.zeros((1, 14))])
def test_actions_that_are_none(env: AlohaEnv, action: np.ndarray) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="an action must be 14 finite numbers"):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "cook"}, "no task 'cook'; expected one of transfer_cube, insertion"),
        ({"cameras": ["moon"]}, "no camera 'moon'; expected of left_pillar"),
        ({"rendering": "slow"}, "rendering must be 'fast' or 'full'"),
        ({"image_width": 0}, "image_width must be an integer from 1"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlohaEnv(**options)


def test_there_is_no_option_of_reset(env: AlohaEnv) -> None:
    with pytest.raises(ValueError, match="unknown reset option 'state'; there is none"):
        env.reset(options={"state": 1})


def test_a_simulator_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'dm_control'", name="dm_control")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingSimulatorError, match=r"No module named 'dm_control'.*\[aloha\]"):
        AlohaEnv()


def test_registered_with_their_steps() -> None:
    steps = {"lfm/AlohaTransferCube": 400, "lfm/AlohaInsertion": 500}
    for name, most in steps.items():
        assert gym.spec(f"{name}-v0").max_episode_steps == most
        assert gym.spec(f"{name}Image-v0").kwargs["cameras"] == ("top",)
        assert lfm_envs.prefers_processes(f"{name}Image-v0")


SAME = """
    import gymnasium as gym, lfm_envs, numpy as np
    from gym_aloha.env import AlohaEnv as Theirs

    theirs = Theirs("insertion", obs_type="pixels_agent_pos")
    ours = gym.make("lfm/AlohaInsertionImage-v0", disable_env_checker=True)
    (a, _), (b, _) = theirs.reset(seed=11), ours.reset(seed=11)
    rng = np.random.default_rng(0)
    for _ in range(3):
        np.testing.assert_array_equal(np.float32(a["agent_pos"]), b["state"])
        np.testing.assert_array_equal(a["pixels"]["top"], b["top"])
        action = b["state"] + rng.normal(0, 0.1, 14)
        a, reward, terminated, _, said = theirs.step(action)
        b, *ended, _, info = ours.step(action)
        assert ended == [float(reward), terminated] and info == {"success": said["is_success"]}
    print("the same")
"""


@pytest.mark.slow
def test_numbers_and_images_are_those_of_gym_aloha() -> None:
    """In a process of its own: dm_control draws with what it found when it was imported."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SAME)],
        env={"MUJOCO_GL": "egl", **os.environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if not done.stdout and "MissingSimulatorError" in done.stderr:
        pytest.skip(f"there is no graphics library: {done.stderr[-200:]}")
    assert done.stdout == "the same\n", done.stderr
