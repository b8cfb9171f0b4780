"""Camera images of the robosuite tasks."""

from __future__ import annotations

import gymnasium as gym
import lfm_envs
import numpy as np
import pytest

pytest.importorskip("robosuite", reason="the robosuite tasks need the extra 'robosuite'")

from lfm_envs.robosuite import cameras as robosuite_cameras
from lfm_envs.robosuite.env import RobosuiteEnv

pytestmark = pytest.mark.simulator


@pytest.fixture(scope="module", autouse=True)
def drawing() -> None:
    try:
        robosuite_cameras._open_window(8, 8).free()
    except lfm_envs.MissingSimulatorError as error:
        pytest.skip(str(error))


def test_images_are_upright_and_like_those_of_robosuite() -> None:
    from robosuite.utils.binding_utils import MjRenderContextOffscreen

    made = gym.make("lfm/LiftImage-v0", rendering="full", disable_env_checker=True)
    env = made.unwrapped
    obs, _ = env.reset(seed=1)
    images = ["agentview_image", "robot0_eye_in_hand_image"]
    assert [key for key in obs if key.endswith("_image")] == images
    assert obs in env.observation_space
    assert {obs[key].shape for key in images} == {(84, 84, 3)}
    # The robot stands at the upper edge of the picture, above the bright table.
    assert obs[images[0]][:10].mean() < obs[images[0]][40:].mean() - 20

    context = MjRenderContextOffscreen(env.simulator.sim, device_id=-1)
    context.vopt.geomgroup[0], context.vopt.geomgroup[1] = 0, 1
    context.gl_ctx.make_current()
    for key in images:
        camera = key.removesuffix("_image")
        theirs = env.simulator.sim.render(84, 84, camera_name=camera)[::-1]
        np.testing.assert_array_equal(obs[key], theirs)
    described = env.env_args
    assert described["env_kwargs"]["camera_names"] == ["agentview", "robot0_eye_in_hand"]
    assert described["lfm_envs"] == {"rendering": "full"}
    made.close()


def test_fast_images_are_nearly_the_same_and_follow_the_episode() -> None:
    fast = RobosuiteEnv("Can", cameras=["agentview"], image_size=48)
    full = RobosuiteEnv(env_args=fast.env_args, rendering="full")
    assert fast.env_args["lfm_envs"] == {"rendering": "fast"}
    one, _ = fast.reset(seed=2)
    two, _ = full.reset(seed=2)
    assert one["agentview_image"].shape == two["agentview_image"].shape == (48, 48, 3)
    difference = one["agentview_image"].astype(int) - two["agentview_image"]
    assert 0 < np.abs(difference).mean() < 12
    # Another model and another environment in between.
    other, _ = fast.reset(seed=3)
    assert not np.array_equal(other["agentview_image"], one["agentview_image"])
    state = fast.state()
    for _ in range(3):
        moved, *_ = fast.step([1, 0, 0, 0, 0, 0, 0])
    again, _ = fast.reset(options={"reset_to": state})
    np.testing.assert_array_equal(again["agentview_image"], other["agentview_image"])
    assert not np.array_equal(moved["agentview_image"], other["agentview_image"])
    fast.close()
    full.close()


def test_frames_can_be_rendered_without_cameras() -> None:
    env = RobosuiteEnv("ToolHang", render_mode="rgb_array", render_size=64)
    env.reset(seed=0)
    frame = env.render()
    assert frame is not None and frame.shape == (64, 64, 3) and frame.std() > 10
    env.close()


def test_an_unusable_graphics_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"no {name}")

    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(robosuite_cameras.importlib, "import_module", fail)
    with pytest.raises(lfm_envs.MissingSimulatorError, match="osmesa cannot be used.*apt install"):
        robosuite_cameras._open_window(8, 8)
