"""Absolute actions: their numbers, controllers, and that they lead where the deltas led."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lfm_envs.errors import EnvArgsError
from lfm_envs.robosuite.absolute_actions import (
    HAND_TO_SITE,
    PoseController,
    absolute_env_kwargs,
    from_controller,
    rotation_elements,
    to_controller,
)
from lfm_envs.robosuite.tasks import default_env_args
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.simulator


def arm(**changes: Any) -> dict[str, Any]:
    return {"type": "OSC_POSE", "input_type": "delta", "input_ref_frame": "world"} | changes


def nested(**changes: Any) -> dict[str, Any]:
    return {"type": "BASIC", "body_parts": {"right": arm(**changes)}}


# -- numbers --------------------------------------------------------------------------------------


def test_axis_angles_and_back() -> None:
    rng = np.random.default_rng(0)
    actions = np.concatenate([rng.normal(size=(5, 4, 6)), np.ones((5, 4, 1))], axis=-1)
    actions[..., 3:6] = Rotation.random(20, rng=0).as_rotvec().reshape(5, 4, 3)
    both_arms = actions.reshape(5, 2, 14)
    absolute = from_controller(both_arms)
    assert absolute.shape == (5, 2, 20)
    np.testing.assert_array_equal(absolute[..., 10:13], both_arms[..., 7:10])
    np.testing.assert_array_equal(absolute[..., [9, 19]], both_arms[..., [6, 13]])
    np.testing.assert_allclose(to_controller(absolute), both_arms, atol=1e-12)
    with pytest.raises(ValueError, match=r"shape \(9,\); expected \(\.\.\., 10 per arm\)"):
        to_controller(np.zeros(9))
    with pytest.raises(ValueError, match="no rotation"):
        to_controller(np.zeros(10))


def test_which_elements_are_rotations() -> None:
    assert rotation_elements(1) == (3, 4, 5, 6, 7, 8)
    assert rotation_elements(2) == (3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 18)


def goals(config: Any, action: list[float], **changes: Any) -> tuple[np.ndarray, Rotation]:
    """Goal of one step, in a world where the base is turned by a quarter and the site by a half."""
    pose: dict[str, Any] = {
        "position": np.array([[0.1, 0.2, 0.3]]),
        "rotation": Rotation.from_rotvec([[np.pi, 0, 0]]),
        "base_position": np.array([1.0, 0, 0]),
        "base_rotation": Rotation.from_rotvec([0, 0, np.pi / 2]),
    }
    found = PoseController.from_config(config).goals(np.array([action]), **(pose | changes))
    converted = to_controller(found)[0]
    assert converted[6] == action[6]
    return converted[:3], Rotation.from_rotvec(converted[3:6])


def test_deltas_are_clipped_scaled_and_added() -> None:
    position, rotation = goals(nested(), [1, 0, -3, 0, 0, 0.5, -1])
    np.testing.assert_allclose(position, [0.15, 0.2, 0.25])
    expected = Rotation.from_rotvec([0, 0, 0.25]) * Rotation.from_rotvec([np.pi, 0, 0])
    assert (rotation * expected.inv()).magnitude() < 1e-9


def test_deltas_in_the_frame_of_the_base() -> None:
    for config in (nested(input_ref_frame="base"), None):
        position, rotation = goals(config, [1, 0, 0, 0.2, 0, 0, 1])
        np.testing.assert_allclose(position, [0.1, 0.25, 0.3], atol=1e-12)
        expected = Rotation.from_rotvec([0, 0.1, 0]) * Rotation.from_rotvec([np.pi, 0, 0])
        assert (rotation * expected.inv()).magnitude() < 1e-9


def test_other_scales() -> None:
    config = nested(input_min=-2, input_max=2, output_min=[-0.1] * 6, output_max=[0.3] * 6)
    position, _ = goals(config, [0, -2, 2, 0, 0, 0, 1])
    np.testing.assert_allclose(position, [0.2, 0.1, 0.6])


def test_flat_configurations_are_in_the_world() -> None:
    position, _ = goals({"type": "OSC_POSE", "control_delta": True}, [1, 0, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(position, [0.15, 0.2, 0.3])


def test_what_is_absolute_already() -> None:
    action = [0.5, 0.6, 0.7, 0, 0, 1.0, -1]
    for config in (
        nested(input_type="absolute"),
        {"type": "OSC_POSE", "control_delta": False},
    ):
        position, rotation = goals(config, action)
        np.testing.assert_allclose(position, action[:3])
        np.testing.assert_allclose(rotation.as_rotvec(), action[3:6])
    position, rotation = goals(nested(input_type="absolute", input_ref_frame="base"), action)
    np.testing.assert_allclose(position, [1 - 0.6, 0.5, 0.7])
    np.testing.assert_allclose(rotation.as_rotvec(), [0, 0, 1 + np.pi / 2])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "JOINT_VELOCITY"}, "its type is 'JOINT_VELOCITY'; expected OSC_POSE"),
        (nested(type="IK_POSE"), "its type is 'IK_POSE'"),
        (nested(impedance_mode="variable"), "impedance_mode is 'variable'; expected fixed"),
        (nested(input_ref_frame="hand"), "input_ref_frame is 'hand'; expected world or base"),
        (nested(output_max="far"), "output_max is 'far'; expected 1 or 6 numbers"),
        ({"body_parts": {"torso": {}}}, "no arm 'right' or 'left'"),
        ({"body_parts": {"right": arm(), "left": arm()}}, "it has 2 arms"),
        ("OSC_POSE", "it is 'OSC_POSE'; expected an object"),
    ],
)
def test_controllers_that_do_not_fit(config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoseController.from_config(config)


def test_arguments_of_an_environment() -> None:
    given = default_env_args("Transport")["env_kwargs"]
    before = copy.deepcopy(given)
    for kwargs in (given, given | {"controller_configs": [given["controller_configs"]] * 2}):
        changed = absolute_env_kwargs(kwargs)
        configs = changed["controller_configs"]
        for config in configs if isinstance(configs, list) else [configs]:
            assert config["body_parts"]["right"]["input_type"] == "absolute"
            assert config["body_parts"]["right"]["input_ref_frame"] == "world"
        assert {k: v for k, v in changed.items() if k != "controller_configs"} == {
            k: v for k, v in given.items() if k != "controller_configs"
        }
    assert given == before
    with pytest.raises(EnvArgsError, match=r"cannot take absolute actions: its type is 'IK_POSE'"):
        absolute_env_kwargs({"controller_configs": nested(type="IK_POSE")})
    with pytest.raises(EnvArgsError, match="cannot take absolute actions: there is none"):
        absolute_env_kwargs({})


# -- in the simulator -----------------------------------------------------------------------------


@contextlib.contextmanager
def pair_of(task: str) -> Iterator[tuple[Any, Any]]:
    """An environment that takes deltas in the frame of the base, and one that takes goals."""
    pytest.importorskip("robosuite", reason="the trajectories need robosuite")
    from lfm_envs.robosuite.env import RobosuiteEnv

    env_args = default_env_args(task)
    part = env_args["env_kwargs"]["controller_configs"]["body_parts"]["right"]
    part["input_ref_frame"] = "base"
    environments = [
        RobosuiteEnv(env_args=env_args, absolute_actions=absolute) for absolute in (False, True)
    ]
    try:
        yield environments[0], environments[1]
    finally:
        for environment in environments:
            environment.close()


def replay(deltas_env: Any, goals_env: Any, *, fresh: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how far apart deltas and goals lead, (steps, arms), metres and radians.

    With ``fresh``, the controllers know the pose that was set when the first action comes.
    """
    n_arms = len(deltas_env.simulator.robots)
    n_steps = 50 // n_arms
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(n_steps, n_arms, 7)) * [0.3] * 7, axis=0)
    walk[..., 3:6] /= 2
    deltas = np.clip(walk, -1, 1)
    deltas[..., 6] = np.sign(walk[..., 6])

    observations = [deltas_env.reset(seed=1)[0]]
    goals_env.reset(options={"reset_to": deltas_env.state()})
    if fresh:
        for robot in (*deltas_env.simulator.robots, *goals_env.simulator.robots):
            robot.part_controllers["right"].update(force=True)
    for delta in deltas:
        observations.append(deltas_env.step(delta.reshape(-1))[0])
    controller = PoseController.from_config(deltas_env.env_args["env_kwargs"]["controller_configs"])
    sim = deltas_env.simulator.sim
    actions = []
    for n in range(n_arms):
        hand = Rotation.from_quat([o[f"robot{n}_eef_quat"] for o in observations[:-1]])
        site = sim.model.site_name2id(f"robot{n}_right_center")
        actions.append(
            controller.goals(
                deltas[:, n],
                np.array([o[f"robot{n}_eef_pos"] for o in observations[:-1]], dtype=float),
                hand * Rotation.from_quat(HAND_TO_SITE),
                sim.data.site_xpos[site],
                Rotation.from_matrix(sim.data.site_xmat[site].reshape(3, 3)),
            )
        )
    moved, turned = [], []
    for action, expected in zip(np.concatenate(actions, axis=1), observations[1:], strict=True):
        observation = goals_env.step(action)[0]
        for n in range(n_arms):
            position, quat = f"robot{n}_eef_pos", f"robot{n}_eef_quat"
            moved.append(np.abs(observation[position] - expected[position]).max())
            turn = Rotation.from_quat(observation[quat]) * Rotation.from_quat(expected[quat]).inv()
            turned.append(turn.magnitude())
    travelled = observations[-1]["robot0_eef_pos"] - observations[0]["robot0_eef_pos"]
    assert np.linalg.norm(travelled) > 0.05
    return np.reshape(moved, (-1, n_arms)), np.reshape(turned, (-1, n_arms))


@pytest.mark.parametrize("task", ["Lift", "Transport"])
def test_goals_lead_where_the_deltas_led(task: str) -> None:
    with pair_of(task) as (deltas_env, goals_env):
        moved, turned = replay(deltas_env, goals_env, fresh=True)
        n_arms = moved.shape[1]
        assert moved.max() < 1e-5 and turned.max() < 1e-5
        if n_arms == 1:
            moved, turned = replay(deltas_env, goals_env, fresh=False)
            assert moved.max() < 0.015 and np.degrees(turned.max()) < 2
            assert moved[-1].max() < 1e-3 and np.degrees(turned[-1].max()) < 0.1

        assert goals_env.action_space.shape == (10 * n_arms,)
        assert np.isinf(goals_env.action_space.high).all()
        with pytest.raises(ValueError, match="finite numbers"):
            goals_env.step(np.zeros(7 * n_arms))
        with pytest.raises(ValueError, match="no rotation"):
            goals_env.step(np.zeros(10 * n_arms))
