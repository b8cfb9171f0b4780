"""The policy as robomimic calls it: names, images, stacks, goals, absolute actions, rollouts."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lfm_envs.robosuite.absolute_actions import from_controller

from lfm_policy.adapters.robomimic import RolloutPolicy
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.errors import InputError
from lfm_runtime.policy.chunk_policy import ChunkPolicy, Frame
from lfm_runtime.policy.spec import DataSpec

pytestmark = pytest.mark.slow

SHAPES: dict[str, tuple[int, ...]] = {"object": (3,), "image": (4, 5, 3)}


class Echo(ChunkPolicy):
    """Returns chunks of one action, and keeps what it was shown."""

    def __init__(self, action: Sequence[float] = (0.0, 1.0), **dataset: Any) -> None:
        super().__init__(DataSpec(SHAPES, len(action)), n_obs_steps=1, horizon=1, n_action_steps=1)
        self.action = np.array(action, np.float32)
        self.shown: list[dict[str, np.ndarray]] = []
        self.seeds: list[tuple[int | None, int]] = []
        self.config = type("Config", (), {"dataset": RobomimicConfig(**dataset)})

    def sample_seed(self, seed: int | None, episode: int = 0) -> None:
        self.seeds.append((seed, episode))

    def predict_action_chunk(self, batch: Mapping[str, Any], **_: Any) -> Any:
        raise NotImplementedError

    def _actions_of_history(self, frames: Sequence[Frame]) -> np.ndarray:
        self.shown.append(dict(frames[-1].obs))
        return self.action[None]

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def _plain(self, value: Any) -> Any:
        return value


def observation(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "object": rng.normal(size=3),
        "image": rng.integers(0, 256, (4, 5, 3), dtype=np.uint8),
        "unused": np.zeros(2),
    }


def processed(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float32) / 255).transpose(2, 0, 1)


def test_raw_and_processed_images_are_the_same() -> None:
    ob = observation()
    for image in (ob["image"], processed(ob["image"]), np.float64(processed(ob["image"]))):
        policy = Echo()
        rollout = RolloutPolicy(policy)
        rollout.start_episode()
        action = rollout(ob=ob | {"image": image})
        np.testing.assert_array_equal(action, [0, 1])
        assert action.dtype == np.float32 and action.shape == (2,)
        np.testing.assert_array_equal(policy.shown[0]["image"], ob["image"])
        assert policy.shown[0]["image"].dtype == np.uint8
        np.testing.assert_array_equal(policy.shown[0]["object"], np.float32(ob["object"]))


def test_tensors_and_stacks_of_frames() -> None:
    torch = pytest.importorskip("torch")
    old, new = observation(0), observation(1)
    stacked = {
        "object": np.stack([old["object"], new["object"]]),
        "image": np.stack([processed(old["image"]), processed(new["image"])]),
    }
    for ob in (stacked, {key: torch.from_numpy(value) for key, value in stacked.items()}):
        policy = Echo()
        RolloutPolicy(policy)(ob)
        np.testing.assert_array_equal(policy.shown[0]["image"], new["image"])
        np.testing.assert_array_equal(policy.shown[0]["object"], np.float32(new["object"]))


def test_names_of_the_environment() -> None:
    ob = observation()
    ob = {"object": ob["object"], "agentview_image": ob["image"]}
    renaming = {"agentview_image": "image"}
    for rollout in (
        RolloutPolicy(Echo(rename=renaming)),
        RolloutPolicy(Echo(), rename=renaming),
    ):
        rollout(ob)
    with pytest.raises(InputError, match=r"'image' is missing: found \['agentview_image', 'obj"):
        RolloutPolicy(Echo())(ob)
    with pytest.raises(InputError, match="'agentview_image' is missing"):
        RolloutPolicy(Echo(rename=renaming))(observation())


def test_episodes_and_their_noise() -> None:
    policy = Echo()
    rollout = RolloutPolicy(policy, seed=7)
    for _ in range(3):
        rollout.start_episode()
        rollout(observation())
    assert policy.seeds == [(7, 0), (7, 1), (7, 2)]


def test_absolute_actions_become_axis_angles() -> None:
    goal = np.array([0.1, 0.2, 0.3, 0.5, -0.6, 0.7, 1.0], np.float32)
    absolute = from_controller(goal)
    trained = Echo(absolute, action_space="absolute")
    np.testing.assert_allclose(RolloutPolicy(trained)(observation()), goal, atol=1e-6)
    assert RolloutPolicy(trained)(observation()).dtype == np.float32
    assert RolloutPolicy(trained, axis_angle=False)(observation()).shape == (10,)
    assert RolloutPolicy(Echo(absolute), axis_angle=True)(observation()).shape == (7,)


def test_what_it_cannot_take() -> None:
    rollout, ob = RolloutPolicy(Echo()), observation()
    with pytest.raises(InputError, match="a goal was given"):
        rollout(ob, goal=ob)
    with pytest.raises(InputError, match=r"'image' has shape \(4, 5, 3\) and dtype float64"):
        rollout(ob | {"image": ob["image"].astype(float)})
    with pytest.raises(InputError, match=r"'image' ranges from .* expected float images of 0 to 1"):
        rollout(ob | {"image": processed(ob["image"]) * 255})
    with pytest.raises(InputError, match=r"'image' ranges from nan"):
        rollout(ob | {"image": np.full((3, 4, 5), np.nan)})
    with pytest.raises(InputError, match=r"'object' has shape \(4,\)"):
        rollout(ob | {"object": np.zeros(4)})


_IN_ROBOMIMIC = """
import sys
from unittest import mock

try:
    import torchvision
except (ImportError, RuntimeError):  # robomimic's own networks need it, rollouts do not
    for name in ("", ".transforms", ".transforms.functional", ".models"):
        sys.modules["torchvision" + name] = mock.MagicMock()
for name in ("termcolor", "tensorboardX", "imageio"):
    sys.modules.setdefault(name, mock.MagicMock())

import numpy as np
import robomimic.envs.env_base as EB
from robomimic.utils.train_utils import run_rollout

from lfm_policy.adapters.robomimic import RolloutPolicy
from tests.adapters.test_robomimic import Echo, observation, processed

steps = []

class Env(EB.EnvBase):
    def __init__(self):
        pass

    def reset(self):
        ob = observation(len(steps))
        return ob | {"image": processed(ob["image"])}

    def step(self, action):
        steps.append(action)
        return self.reset(), 1.0, False, {}

    def is_success(self):
        return {"task": len(steps) >= 4}

    def is_done(self):
        return False

Env.__abstractmethods__ = frozenset()
policy = Echo()
found = run_rollout(RolloutPolicy(policy), Env(), horizon=10, terminate_on_success=True)
assert found["Horizon"] == 4 and found["Success_Rate"] == 1.0, found
assert len(steps) == 4 and (np.array(steps) == [0, 1]).all()
assert (policy.shown[2]["image"] == observation(2)["image"]).all()
print("rolled out")
"""


def test_robomimic_rolls_it_out() -> None:
    if importlib.util.find_spec("robomimic") is None:
        pytest.skip("the rollout is robomimic's")
    done = subprocess.run(
        [sys.executable, "-c", _IN_ROBOMIMIC],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rolled out" in done.stdout
