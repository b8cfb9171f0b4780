"""Rollouts in gymnasium's vector environments, in one process and in several."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from lfm_envs import EnvFactory, FreezeAfterEnd, make_vector_env

pytestmark = pytest.mark.simulator

pytest.importorskip("gym_pusht")

STEPS = 12
SOLVED = np.array([50.0, 50.0, 256.0, 256.0, np.pi / 4])
KINDS = pytest.mark.parametrize("processes", [False, True], ids=["sync", "async"])


def actions_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 512, (STEPS, 2)).astype(np.float32)


def rollouts(seeds: list[int], num_envs: int, processes: bool) -> dict[int, np.ndarray]:
    """Run one episode of STEPS steps for each seed; a free environment takes the next seed."""
    num_envs = min(num_envs, len(seeds))  # the first reset has to be one of all environments
    envs = make_vector_env("lfm/PushT-v0", num_envs, processes=processes, max_episode_steps=STEPS)
    waiting = list(seeds)
    running: list[int | None] = [None] * num_envs
    step_of = [0] * num_envs
    results: dict[int, list[np.ndarray]] = {}
    done = np.ones(num_envs, dtype=bool)
    try:
        while True:
            mask = np.zeros(num_envs, dtype=bool)
            for i in np.flatnonzero(done):
                running[i] = waiting.pop(0) if waiting else None
                mask[i], step_of[i] = running[i] is not None, 0
            if mask.any():
                starts = [running[i] if mask[i] else None for i in range(num_envs)]
                obs, _ = envs.reset(seed=starts, options={"reset_mask": mask})
                for i in np.flatnonzero(mask):
                    results[running[i]] = [obs["keypoints"][i]]
            if all(seed is None for seed in running):
                return {seed: np.stack(rows) for seed, rows in results.items()}
            actions = np.zeros((num_envs, 2), dtype=np.float32)
            for i, seed in enumerate(running):
                if seed is not None:
                    actions[i] = actions_of(seed)[step_of[i]]
            obs, _, terminated, truncated, infos = envs.step(actions)
            done = terminated | truncated
            for i, seed in enumerate(running):
                if seed is not None:
                    step_of[i] += 1
                    extra = [infos["coverage"][i], infos["success"][i]]
                    assert infos["_coverage"][i] and infos["_success"][i]
                    results[seed].append(obs["keypoints"][i] + extra[0] + extra[1])
    finally:
        envs.close()


@pytest.fixture(scope="module")
def one_by_one() -> dict[int, np.ndarray]:
    return rollouts([100_000, 100_001, 100_002, 100_003, 100_004], 1, processes=False)


@pytest.mark.parametrize("num_envs, processes", [(2, False), (5, False), (7, False), (2, True)])
def test_episodes_do_not_depend_on_how_many_run_together(
    one_by_one: dict[int, np.ndarray], num_envs: int, processes: bool
) -> None:
    found = rollouts(list(one_by_one), num_envs, processes)
    assert found.keys() == one_by_one.keys()
    for seed, rows in one_by_one.items():
        assert len(rows) == STEPS + 1
        np.testing.assert_array_equal(found[seed], rows)


@KINDS
def test_a_finished_environment_is_frozen_until_its_own_reset(processes: bool) -> None:
    envs = make_vector_env("lfm/PushT-v0", 3, processes=processes)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    try:
        envs.reset(seed=[1, 2, 3])
        mask = np.array([False, True, False])
        start, infos = envs.reset(options={"reset_mask": mask, "state": SOLVED})
        assert infos["success"][1] and infos["_success"].tolist() == [False, True, False]

        still = np.full((3, 2), 50.0, dtype=np.float32)
        end, rewards, terminated, truncated, infos = envs.step(still)
        assert terminated.tolist() == [False, True, False] and not truncated.any()
        assert rewards[1] == 1.0
        assert infos["success"].dtype == np.bool_ and infos["success"].tolist() == mask.tolist()
        assert infos["coverage"].dtype == np.float64 and infos["coverage"][1] > 0.95

        moving = np.full((3, 2), 400.0, dtype=np.float32)
        for _ in range(3):
            obs, rewards, terminated, truncated, infos = envs.step(moving)
            assert terminated.tolist() == [False, True, False] and not truncated.any()
            assert rewards[1] == 0.0 and infos["success"][1] and infos["coverage"][1] > 0.95
            for key in obs:
                np.testing.assert_array_equal(obs[key][1], end[key][1])
        assert not np.array_equal(obs["agent_pos"][0], end["agent_pos"][0])
        assert envs.get_attr("frozen") == (False, True, False)

        new, infos = envs.reset(seed=[None, 7, None], options={"reset_mask": mask})
        assert infos["_coverage"].tolist() == mask.tolist()
        np.testing.assert_array_equal(new["agent_pos"][[0, 2]], obs["agent_pos"][[0, 2]])
        assert not np.array_equal(new["keypoints"][1], start["keypoints"][1])
        _, _, terminated, _, _ = envs.step(moving)
        assert not terminated.any()
    finally:
        envs.close()


@KINDS
def test_image_observations(processes: bool) -> None:
    envs = make_vector_env("lfm/PushTImage-v0", 2, processes=processes, image_size=32)
    try:
        obs, _ = envs.reset(seed=[5, 6])
        assert obs["image"].shape == (2, 32, 32, 3) and obs["image"].dtype == np.uint8
        assert not np.array_equal(obs["image"][0], obs["image"][1])
    finally:
        envs.close()


@KINDS
def test_frames_can_be_rendered(processes: bool) -> None:
    options = {"render_mode": "rgb_array", "render_size": 64}
    envs = make_vector_env("lfm/PushT-v0", 2, processes=processes, **options)
    try:
        envs.reset(seed=[5, 6])
        frames = envs.render()
        assert frames is not None and [frame.shape for frame in frames] == [(64, 64, 3)] * 2
    finally:
        envs.close()


def test_what_has_drawn_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork waits forever for threads of the graphics driver, which it does not have."""
    monkeypatch.setitem(sys.modules, "OpenGL.EGL", ModuleType("OpenGL.EGL"))
    envs = make_vector_env("lfm/PushT-v0", 1, processes=True)
    assert isinstance(envs, AsyncVectorEnv)
    assert type(envs.processes[0]).__name__ == "SpawnProcess"
    envs.close()


def test_a_fresh_interpreter_can_create_the_environment() -> None:
    envs = make_vector_env("lfm/PushT-v0", 1, processes=True, context="spawn")
    try:
        obs, _ = envs.reset(seed=[100_000])
    finally:
        envs.close()
    expected, _ = EnvFactory("lfm/PushT-v0")().reset(seed=100_000)
    for key, value in expected.items():
        np.testing.assert_array_equal(obs[key][0], value)


def test_a_fresh_interpreter_is_told_what_was_registered() -> None:
    """By a script, say: only this process has run it."""
    gym.register("lfm-test/Told-v0", entry_point="lfm_envs.pusht:PushTEnv", max_episode_steps=3)
    try:
        envs = make_vector_env("lfm-test/Told-v0", 1, processes=True, context="spawn")
        try:
            obs, _ = envs.reset(seed=[100_000])
        finally:
            envs.close()
    finally:
        del gym.registry["lfm-test/Told-v0"]
    expected, _ = EnvFactory("lfm/PushT-v0")().reset(seed=100_000)
    for key, value in expected.items():
        np.testing.assert_array_equal(obs[key][0], value)


def test_a_first_reset_of_some_environments_is_explained() -> None:
    envs = make_vector_env("lfm/PushT-v0", 2)
    with pytest.raises(ValueError, match="first reset must be one of all"):
        envs.reset(seed=[1, None], options={"reset_mask": np.array([True, False])})
    envs.close()


def test_plain_vector_environments_of_gymnasium_work_too() -> None:
    """Only stepping after the end needs our class: gymnasium's in-process one refuses it."""
    factories = [EnvFactory("lfm/PushT-v0", {"max_episode_steps": 1})] * 2
    sync: Any = SyncVectorEnv(factories, autoreset_mode=AutoresetMode.DISABLED)
    asynchronous: Any = AsyncVectorEnv(factories, autoreset_mode=AutoresetMode.DISABLED)
    actions = np.zeros((2, 2), dtype=np.float32)
    for envs in (sync, asynchronous):
        envs.reset(seed=[1, 2])
        assert envs.step(actions)[3].all()
    assert asynchronous.step(actions)[3].all()
    with pytest.raises(AssertionError):
        sync.step(actions)
    sync.close()
    asynchronous.close()


@pytest.mark.parametrize("processes", [False, True])
def test_an_error_of_an_environment_reaches_the_caller(processes: bool) -> None:
    envs = make_vector_env("lfm/PushT-v0", 2, processes=processes)
    envs.reset(seed=[1, 2])
    *_, infos = envs.step(np.array([[1, 1], [np.nan, 1]], dtype=np.float32))
    envs.close()
    assert infos["_fault"].tolist() == [False, True]
    assert infos["fault"][1].startswith("step() raised ValueError: ")
    assert "two finite numbers" in infos["fault"][1]


def test_the_factory_survives_a_trip_to_another_process() -> None:
    factory = pickle.loads(pickle.dumps(EnvFactory("lfm/PushT-v0", {"render_size": 32})))
    env = factory()
    assert isinstance(env, FreezeAfterEnd)
    assert env.spec is not None and env.spec.max_episode_steps == 300
    env.close()


def test_no_environments_is_an_error() -> None:
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        make_vector_env("lfm/PushT-v0", 0)
