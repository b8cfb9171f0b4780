"""The robosuite tasks: names, seeds, and states that are set again to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import lfm_envs
import numpy as np
import pytest
from lfm_envs.robosuite.tasks import TASKS

pytest.importorskip("robosuite", reason="the robosuite tasks need the extra 'robosuite'")

from lfm_envs.robosuite.env import RobosuiteEnv

pytestmark = pytest.mark.simulator

ARM = {
    "joint_pos": 7,
    "joint_pos_cos": 7,
    "joint_pos_sin": 7,
    "joint_vel": 7,
    "eef_pos": 3,
    "eef_quat": 4,
    "eef_quat_site": 4,
    "gripper_qpos": 2,
    "gripper_qvel": 2,
}
OBJECT = {"Lift": 10, "Can": 14, "Square": 14, "ToolHang": 44, "Transport": 41}


@pytest.fixture(scope="module")
def lift() -> Iterator[RobosuiteEnv]:
    env = RobosuiteEnv("Lift")
    yield env
    env.close()


def random_actions(env: Any, steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape))


def record(env: Any, seed: int, actions: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Return the states and observations before each action."""
    obs, _ = env.reset(seed=seed)
    states, observed = [], []
    for action in actions:
        states.append(env.state())
        observed.append(obs)
        obs, *_ = env.step(action)
    return states, observed


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    assert first.keys() == second.keys()
    return all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("task", list(TASKS))
def test_observations_states_and_replay_of_every_task(task: str) -> None:
    made = gym.make(f"lfm/{task}-v0", disable_env_checker=True)
    assert made.spec is not None and made.spec.max_episode_steps == TASKS[task].max_episode_steps
    env = made.unwrapped
    robots = len(TASKS[task].robots)
    shapes = {"object": (OBJECT[task],)}
    shapes |= {f"robot{i}_{key}": (n,) for i in range(robots) for key, n in ARM.items()}
    assert {key: box.shape for key, box in env.observation_space.spaces.items()} == shapes
    assert env.action_space.shape == (7 * robots,)

    actions = random_actions(env, 6)
    states, observed = record(env, 3, actions)
    assert all(obs in env.observation_space for obs in observed)
    assert states[0]["states"].dtype == np.float64

    # From another episode, so that nothing of this one is left.
    env.reset(seed=4)
    first = {"model": states[0]["model"], "states": states[0]["states"]}
    obs, info = env.reset(options={"reset_to": first})
    assert info == {"success": False}
    for step, action in enumerate(actions):
        assert np.array_equal(env.state()["states"], states[step]["states"])
        assert same(obs, observed[step])
        obs, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated, info) == (0.0, False, False, {"success": False})
    obs, _ = env.reset(options={"reset_to": {"states": states[3]["states"]}})
    assert same(obs, observed[3])
    made.close()


def test_a_seed_fixes_an_episode_and_disturbs_nobody(lift: RobosuiteEnv) -> None:
    actions = random_actions(lift, 5)
    states, observed = record(lift, 11, actions)
    before = np.random.get_state()[1].copy()
    other = RobosuiteEnv("Lift")
    again, observed_again = record(other, 11, actions)
    different, _ = record(other, 12, actions[:1])
    assert np.array_equal(np.random.get_state()[1], before)
    other.close()
    assert [s["model"] for s in again] == [s["model"] for s in states]
    for first, second in zip(states, again, strict=True):
        assert np.array_equal(first["states"], second["states"])
    assert all(same(a, b) for a, b in zip(observed, observed_again, strict=True))
    assert not np.array_equal(different[0]["states"], states[0]["states"])


def test_without_a_seed_every_episode_is_another(lift: RobosuiteEnv) -> None:
    lift.reset(seed=5)
    starts = [lift.reset()[0]["object"] for _ in range(2)]
    lift.reset(seed=5)
    assert np.array_equal(lift.reset()[0]["object"], starts[0])
    assert not np.array_equal(starts[0], starts[1])


def test_seeds_start_where_robosuite_starts(lift: RobosuiteEnv) -> None:
    from lfm_envs.robosuite.simulator import seeded

    lift.reset(seed=21)
    state = lift.state()["states"]
    with seeded(21):
        lift.simulator.reset()
    assert np.array_equal(lift.simulator.sim.get_state().flatten(), state)


def test_repeating_actions_in_robosuite_itself_gives_the_same_states(lift: RobosuiteEnv) -> None:
    actions = random_actions(lift, 8)
    states, _ = record(lift, 2, actions)
    first = {"model": states[0]["model"], "states": states[0]["states"]}
    lift.reset(options={"reset_to": first})
    for state, action in zip(states, actions, strict=True):
        assert np.array_equal(lift.simulator.sim.get_state().flatten(), state["states"])
        lift.simulator.step(action)


def test_relative_poses_belong_to_the_same_state_as_the_others() -> None:
    env = RobosuiteEnv("Can")
    env.reset(seed=1)
    for action in random_actions(env, 3):
        obs, *_ = env.step(action)
    # robosuite's names: relative position, relative orientation, position, orientation.
    relative, position = obs["object"][:3], obs["object"][7:10]
    distance = np.linalg.norm(position - obs["robot0_eef_pos"])
    assert np.linalg.norm(relative) == pytest.approx(distance, abs=1e-6)
    env.close()


def test_success_ends_an_episode_that_can_be_continued(lift: RobosuiteEnv) -> None:
    lift.reset(seed=0)
    address = lift.simulator.sim.model.get_joint_qpos_addr("cube_joint0")[0]
    states = lift.state()["states"]
    states[1 + address + 2] += 0.2
    _, info = lift.reset(options={"reset_to": {"states": states}})
    assert info == {"success": True}
    assert lift.reward() == 1.0
    _, reward, terminated, _, info = lift.step(np.zeros(7))
    assert (reward, terminated, info) == (1.0, True, {"success": True})
    for _ in range(15):  # the cube falls
        _, reward, terminated, _, info = lift.step(np.zeros(7))
    assert (reward, terminated, info) == (0.0, False, {"success": False})


def test_the_description_makes_the_same_environment(lift: RobosuiteEnv) -> None:
    described = lift.env_args
    assert json.loads(json.dumps(described)) == described
    assert described["env_name"] == "Lift" and described["type"] == 1
    assert described["env_kwargs"]["control_freq"] == 20
    assert lfm_envs.env_id_of(described) == "lfm/Lift-v0"
    made = gym.make("lfm/Robosuite-v0", env_args=json.dumps(described), disable_env_checker=True)
    env = made.unwrapped
    assert env.env_args == described
    actions = random_actions(lift, 3)
    for first, second in zip(record(lift, 7, actions)[0], record(env, 7, actions)[0], strict=True):
        assert np.array_equal(first["states"], second["states"])
    made.close()


def test_its_rate_is_that_of_the_description(lift: RobosuiteEnv) -> None:
    described = lift.env_args
    described["env_kwargs"]["control_freq"] = 10
    env = RobosuiteEnv(env_args=described)
    assert (lift.metadata["render_fps"], env.metadata["render_fps"]) == (20, 10)
    env.close()


def test_bad_arguments_and_states_are_errors(lift: RobosuiteEnv) -> None:
    with pytest.raises(ValueError, match="no task 'Push'.*Lift, Can"):
        RobosuiteEnv("Push")
    with pytest.raises(ValueError, match="render_mode"):
        RobosuiteEnv("Lift", render_mode="human")
    with pytest.raises(ValueError, match="image_size"):
        RobosuiteEnv("Lift", cameras=["agentview"], image_size=0)
    with pytest.raises(ValueError, match="no camera 'agent'; this scene has: .*agentview"):
        RobosuiteEnv("Lift", cameras=["agent"])
    with pytest.raises(ValueError, match="an action must be"):
        lift.step(np.zeros(6))
    with pytest.raises(ValueError, match="an action must be"):
        lift.step(np.full(7, np.nan))
    with pytest.raises(ValueError, match="unknown reset option 'state'"):
        lift.reset(options={"state": 1})
    with pytest.raises(ValueError, match="reset_to.*must be a dictionary"):
        lift.reset(options={"reset_to": np.zeros(3)})
    with pytest.raises(ValueError, match=r"states of shape \(3,\); expected \(32,\)"):
        lift.reset(options={"reset_to": {"states": np.zeros(3)}})
    with pytest.raises(lfm_envs.EnvArgsError, match="model cannot be loaded as 'Lift'"):
        lift.reset(options={"reset_to": {"model": "<mujoco/>", "states": np.zeros(32)}})
    # And it goes on.
    lift.reset(seed=0)
    lift.step(np.zeros(7))


def test_a_new_environment_has_no_state() -> None:
    env = RobosuiteEnv("Lift")
    with pytest.raises(RuntimeError, match="before its first reset"):
        env.state()
    with pytest.raises(ValueError, match="needs a model before the first reset"):
        env.reset(options={"reset_to": {"states": np.zeros(32)}})
    env.close()
