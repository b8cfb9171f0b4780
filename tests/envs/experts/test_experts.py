from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("robosuite")
from lfm_envs.experts import EXPERTS
from lfm_envs.robosuite.env import RobosuiteEnv

pytestmark = pytest.mark.simulator


def _episode(env: RobosuiteEnv, task: str, seed: int, max_steps: int) -> tuple[np.ndarray, bool]:
    """Return the actions of an episode until success, and whether there was any."""
    obs, _ = env.reset(seed=seed)
    expert = EXPERTS.make(task, np.random.default_rng(seed))
    actions = []
    solved = False
    while not solved and len(actions) < max_steps:
        actions.append(np.clip(expert.act(obs, env.simulator), -1, 1))
        obs, _, solved, _, _ = env.step(actions[-1])
    return np.stack(actions), solved


@pytest.fixture(scope="module")
def lift() -> Any:
    env = RobosuiteEnv("Lift")
    yield env
    env.close()


def test_the_cube_is_lifted(lift: RobosuiteEnv) -> None:
    actions, solved = _episode(lift, "Lift", seed=1, max_steps=80)
    assert solved
    assert actions.shape[1] == 7


@pytest.mark.parametrize(("task", "max_steps"), [("Can", 250), ("Square", 250)])
def test_the_task_is_solved(task: str, max_steps: int) -> None:
    env = RobosuiteEnv(task)
    try:
        _, solved = _episode(env, task, seed=0, max_steps=max_steps)
    finally:
        env.close()
    assert solved


@pytest.mark.parametrize(("task", "size"), [("ToolHang", 7), ("Transport", 14)])
def test_the_others_begin(task: str, size: int) -> None:
    env = RobosuiteEnv(task)
    try:
        actions, _ = _episode(env, task, seed=0, max_steps=15)
    finally:
        env.close()
    assert actions.shape == (15, size)
    assert np.isfinite(actions).all()


def test_an_episode_is_determined_by_its_seeds(lift: RobosuiteEnv) -> None:
    first, _ = _episode(lift, "Lift", seed=2, max_steps=80)
    _episode(lift, "Lift", seed=3, max_steps=10)
    second, _ = _episode(lift, "Lift", seed=2, max_steps=80)
    np.testing.assert_array_equal(first, second)


def test_demonstrators_differ() -> None:
    styles = {EXPERTS.make("Lift", np.random.default_rng(seed)).style for seed in range(5)}
    assert len(styles) == 5


def test_all_tasks_have_an_expert() -> None:
    for task in EXPERTS:
        EXPERTS.make(task, np.random.default_rng(0))


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="'Stack'.*Lift"):
        EXPERTS.make("Stack", np.random.default_rng(0))
