"""The PushT environments: gymnasium's contract, the recorded demonstrations, bad input."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import lfm_envs
import numpy as np
import pytest
import zarr
from gymnasium.utils.env_checker import check_env
from lfm_envs.pusht_features import state_features

pytestmark = pytest.mark.simulator

IDS = ("lfm/PushT-v0", "lfm/PushTImage-v0")
EPISODES = (0, 57, 120, 205)


@pytest.fixture
def simulator() -> Any:
    """The module of the simulator; tests that need it are skipped where it is not installed."""
    return pytest.importorskip("gym_pusht.envs.pusht")


@pytest.fixture
def env(simulator: Any) -> Iterator[gym.Env[Any, Any]]:
    env = gym.make("lfm/PushT-v0", render_mode="rgb_array")
    yield env
    env.close()


@pytest.fixture(scope="module")
def recorded(pusht_zarr: Path) -> dict[str, np.ndarray]:
    root = zarr.open_group(str(pusht_zarr), mode="r")
    return {
        "state": np.asarray(root["data/state"][:]),
        "action": np.asarray(root["data/action"][:]),
        "ends": np.asarray(root["meta/episode_ends"][:]),
    }


def state_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the five numbers; angles are compared on the circle."""
    off = np.abs(found - expected)
    off[..., 4] = np.minimum(off[..., 4], 2 * np.pi - off[..., 4])
    return float(off.max())


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_accepts_the_environment(simulator: Any, env_id: str) -> None:
    env = gym.make(env_id, render_mode="rgb_array")
    assert env.spec is not None and env.spec.max_episode_steps == 300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Positions on the board have no true bounds, as in gymnasium's own MuJoCo environments.
        warnings.filterwarnings("ignore", message=".*infinity. This is probably too.*")
        # Actions are pixels; the policy's normaliser takes care of their range.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized space.*")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_observations_are_in_the_space(simulator: Any, env_id: str) -> None:
    env = gym.make(env_id, disable_env_checker=True)
    obs, info = env.reset(seed=3)
    assert info == {"success": False, "coverage": info["coverage"]}
    for action in ([0, 0], [512, 512], [300.5, 20.25]):
        assert env.observation_space.contains(obs)
        obs, reward, terminated, truncated, info = env.step(np.array(action, dtype=np.float32))
        assert set(info) == {"success", "coverage"}
        assert type(info["success"]) is bool and type(info["coverage"]) is float
        assert type(reward) is float and type(terminated) is bool and truncated is False
        assert reward == np.clip(info["coverage"] / 0.95, 0, 1)
    env.close()


def test_a_seed_fixes_the_episode_to_the_last_bit(simulator: Any) -> None:
    def rollout(seed: int) -> np.ndarray:
        env = gym.make("lfm/PushT-v0")
        _, info = env.reset(seed=seed)
        rows = [[*env.unwrapped.state, info["coverage"], 0.0]]
        for action in np.random.default_rng(0).uniform(150, 400, (30, 2)):
            _, reward, *_, info = env.step(action)
            rows.append([*env.unwrapped.state, info["coverage"], reward])
        return np.array(rows)

    first, other = rollout(100_000), rollout(100_001)
    assert first[:, 5].max() > 0.1  # the block covers part of the goal
    for _ in range(8):
        np.testing.assert_array_equal(first, rollout(100_000))
    assert not np.array_equal(first, other)


def test_starts_and_dynamics_are_those_of_the_simulator(
    env: gym.Env[Any, Any], simulator: Any
) -> None:
    reference = simulator.PushTEnv(obs_type="state")
    for seed in (None, 100_000, None, 7):  # None: the generators go on, alike
        if seed is None and reference._np_random is None:
            continue
        expected, _ = reference.reset(seed=seed)
        env.reset(seed=seed)
        np.testing.assert_array_equal(env.unwrapped.state, expected)
        for action in np.random.default_rng(1).uniform(0, 512, (20, 2)).astype(np.float32):
            expected, reward, *_, info = reference.step(action)
            _, found_reward, *_, found_info = env.step(action)
            np.testing.assert_array_equal(env.unwrapped.state, expected)
            # The simulator's own sum depends on the order of a set: equal but for rounding.
            assert found_reward == pytest.approx(reward, abs=1e-12)
            assert found_info["coverage"] == pytest.approx(info["coverage"], abs=1e-12)
    assert env.unwrapped.np_random_seed == 7


def test_the_episode_is_truncated_after_300_steps(env: gym.Env[Any, Any]) -> None:
    env.reset(seed=0)
    ends = [env.step([10.0, 10.0])[2:4] for _ in range(300)]
    assert ends[-1] == (False, True)
    assert not any(terminated or truncated for terminated, truncated in ends[:-1])


@pytest.mark.parametrize("shift, success", [(0.0, True), (30.0, False)])
def test_success_is_coverage_of_the_goal(
    env: gym.Env[Any, Any], shift: float, success: bool
) -> None:
    state = [50.0, 50.0, 256.0 + shift, 256.0, np.pi / 4]
    _, info = env.reset(options={"state": state})
    assert info["success"] is success
    _, reward, terminated, _, info = env.step([50.0, 50.0])
    assert terminated is success and info["success"] is success
    assert (info["coverage"] > 0.95) is success
    assert (reward == 1.0) is success


def test_reset_to_a_recorded_state_is_exact(
    env: gym.Env[Any, Any], recorded: dict[str, np.ndarray]
) -> None:
    """Also in the middle of a push, and the features are those of the dataset."""
    for state in recorded["state"][::997]:
        obs, _ = env.reset(options={"state": state})
        assert state_error(env.unwrapped.state, state) < 1e-9
        for key, value in state_features(state).items():
            np.testing.assert_array_equal(obs[key], value, err_msg=key)


@pytest.mark.parametrize("episode", EPISODES)
def test_human_actions_reproduce_the_recorded_states(
    env: gym.Env[Any, Any], recorded: dict[str, np.ndarray], episode: int
) -> None:
    ends = recorded["ends"]
    begin, end = (ends[episode - 1] if episode else 0), ends[episode]
    states, actions = recorded["state"][begin:end], recorded["action"][begin:end]
    obs, _ = env.reset(options={"state": states[0]})
    for action, state in zip(actions[:-1], states[1:], strict=True):
        obs, *_ = env.step(action)
        assert state_error(env.unwrapped.state, state) < 2e-3  # pixels
        for key, value in state_features(state).items():
            np.testing.assert_allclose(obs[key], value, atol=5e-3, err_msg=key)


def test_the_image_is_the_recorded_image(
    simulator: Any, recorded: dict[str, np.ndarray], pusht_zarr: Path
) -> None:
    env = gym.make("lfm/PushTImage-v0")
    images = zarr.open_group(str(pusht_zarr), mode="r")["data/img"]
    for index in (0, 40, 5000, 12_345, 25_649):
        obs, _ = env.reset(options={"state": recorded["state"][index]})
        assert obs["image"].shape == (96, 96, 3) and obs["image"].dtype == np.uint8
        off = np.abs(obs["image"].astype(np.float64) - np.asarray(images[index]))
        assert off.mean() < 0.5  # grey levels
        np.testing.assert_array_equal(obs["agent_pos"], recorded["state"][index, :2])
    env.close()


def test_image_and_state_are_those_of_the_environments_that_give_one(simulator: Any) -> None:
    ids = ("lfm/PushTImageState-v0", "lfm/PushT-v0", "lfm/PushTImage-v0")
    both, *others = [gym.make(env_id) for env_id in ids]
    actions = np.random.default_rng(0).uniform(100, 400, (20, 2))
    seen = [env.reset(seed=5)[0] for env in (both, *others)]
    for action in actions:
        assert both.observation_space.contains(seen[0])
        assert seen[0].keys() == seen[1].keys() | seen[2].keys()
        for obs in seen[1:]:
            for key, value in obs.items():
                np.testing.assert_array_equal(seen[0][key], value, err_msg=key)
        seen = [env.step(action)[0] for env in (both, *others)]
    for env in (both, *others):
        env.close()


def test_sizes_of_pictures(simulator: Any) -> None:
    env = gym.make("lfm/PushTImage-v0", render_mode="rgb_array", render_size=200, image_size=48)
    obs, _ = env.reset(seed=0)
    assert obs["image"].shape == (48, 48, 3)
    frame = env.render()
    assert frame.shape == (200, 200, 3) and frame.dtype == np.uint8
    env.close()


def test_the_last_action_is_not_drawn_in_the_next_episode(env: gym.Env[Any, Any]) -> None:
    env.reset(seed=0)
    before = env.render()
    env.step([100.0, 100.0])
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), before)


def test_render_without_a_mode_says_so(simulator: Any) -> None:
    env = lfm_envs.pusht.PushTEnv()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stat": [0] * 5}, "unknown reset option 'stat'"),
        ({"state": [0.0] * 4}, "5 finite numbers"),
        ({"state": [0.0, 0.0, 0.0, 0.0, np.nan]}, "5 finite numbers"),
    ],
)
def test_bad_reset_options(env: gym.Env[Any, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)


@pytest.mark.parametrize("action", [[1.0], [1.0, np.nan], [[1.0, 2.0]], [np.inf, 0.0]])
def test_bad_actions(env: gym.Env[Any, Any], action: list[Any]) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match="two finite numbers"):
        env.unwrapped.step(action)


@pytest.mark.parametrize(
    "options, message",
    [({"render_size": 0}, "render_size"), ({"render_mode": "human"}, "render_mode must be")],
)
def test_bad_constructor_arguments(simulator: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lfm_envs.pusht.PushTEnv(**options)
    with pytest.raises(ValueError, match="image_size"):
        lfm_envs.pusht.PushTImageEnv(image_size=0)


def test_there_is_no_state_before_reset(simulator: Any) -> None:
    with pytest.raises(RuntimeError, match="before its first reset"):
        _ = lfm_envs.pusht.PushTEnv().state


def test_a_missing_simulator_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gym_pusht", None)
    monkeypatch.delitem(sys.modules, "gym_pusht.envs", raising=False)
    monkeypatch.delitem(sys.modules, "gym_pusht.envs.pusht", raising=False)
    with pytest.raises(lfm_envs.MissingSimulatorError, match=r'pip install ".\[sim\]"'):
        gym.make("lfm/PushT-v0")


@pytest.mark.parametrize(
    "package, version, message",
    [
        ("pymunk", "7.0.1", r'7\.0\.1 is installed.*pip install "pymunk<7"'),
        ("gym-pusht", "0.1.5", r'0\.1\.5 is installed.*pip install "gym-pusht>=0\.1\.6"'),
    ],
)
def test_a_version_that_cannot_work_is_explained(
    simulator: Any, monkeypatch: pytest.MonkeyPatch, package: str, version: str, message: str
) -> None:
    true_version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: version if name == package else true_version(name),
    )
    with pytest.raises(lfm_envs.MissingSimulatorError, match=message):
        gym.make("lfm/PushT-v0")


def test_importing_again_registers_once() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(lfm_envs)
    assert all(env_id in gym.registry for env_id in IDS)
