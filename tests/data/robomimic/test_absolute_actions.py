"""`action_space: absolute`: goals from deltas and stored goals, their scaling, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from lfm_envs.robosuite.absolute_actions import HAND_TO_SITE, from_controller, to_controller
from lfm_envs.robosuite.tasks import default_env_args
from scipy.spatial.transform import Rotation

from lfm_policy.data.dataset import build_datasets
from lfm_policy.data.robomimic.absolute_actions import Poses, absolute_actions
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.errors import InputError

pytestmark = pytest.mark.simulator

LENGTHS = {"demo_0": 20, "demo_1": 30}
BASES = {"demo_0": (np.array([0.0, -0.8, 0.9]), 90), "demo_1": (np.array([0.5, 0.8, 0.9]), -90)}

SCENE = """<mujoco><worldbody>
  <body name="table"><site name="other"/></body>
  <body name="robot0_base" pos="0.1 0.2 0.3">
    <body name="mount" pos="{pos}" quat="{quat}"><geom/><site name="robot0_right_center"/></body>
  </body>
</worldbody></mujoco>"""


def scene(position: np.ndarray, degrees: float) -> str:
    half = np.radians(degrees) / 2
    pos = " ".join(map(str, position - [0.1, 0.2, 0.3]))
    return SCENE.format(pos=pos, quat=f"{np.cos(half)} 0 0 {np.sin(half)}")


def poses(rng: np.random.Generator, length: int) -> tuple[np.ndarray, Rotation]:
    position = rng.normal([0, 0, 1], 0.1, (length, 3))
    return position, Rotation.from_rotvec(rng.normal([3, 0, 0], 0.3, (length, 3)))


def demo_arrays(name: str, n_arms: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(list(LENGTHS).index(name))
    length = LENGTHS[name]
    arrays = {
        "actions": rng.uniform(-1, 1, (length, 7 * n_arms)),
        "obs/object": rng.normal(size=(length, 10)),
    }
    for arm in range(n_arms):
        position, hand = poses(rng, length)
        arrays[f"obs/robot{arm}_eef_pos"] = position
        arrays[f"obs/robot{arm}_eef_quat"] = hand.as_quat()
    return arrays


def env_args(**controller: Any) -> dict[str, Any]:
    described = default_env_args("Lift")
    described["env_kwargs"]["controller_configs"]["body_parts"]["right"].update(controller)
    return described


def write(path: Path, described: Any = None, n_arms: int = 1) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(described or env_args())
        for name, length in LENGTHS.items():
            demo = data.create_group(name)
            demo.attrs["num_samples"] = length
            demo.attrs["model_file"] = scene(*BASES[name])
            for key, values in demo_arrays(name, n_arms).items():
                demo[key] = values
    return path


def change(path: Path, edit: Callable[[h5py.Group, str], object]) -> None:
    with h5py.File(path, "a") as file:
        for name in LENGTHS:
            edit(file[f"data/{name}"], name)


def load(path: Path, **options: Any) -> Any:
    return RobomimicConfig(path=str(path), action_space="absolute", **options).load(path.parent)


def expected(name: str, frame: Rotation | None = None) -> tuple[np.ndarray, Rotation]:
    """The goals by the formula of `lfm_envs.robosuite.absolute_actions`, written out."""
    arrays = demo_arrays(name)
    frame = frame or Rotation.identity()
    deltas = arrays["actions"]
    site = Rotation.from_quat(arrays["obs/robot0_eef_quat"]) * Rotation.from_quat(HAND_TO_SITE)
    position = arrays["obs/robot0_eef_pos"] + frame.apply(0.05 * deltas[:, :3])
    return position, frame * Rotation.from_rotvec(0.5 * deltas[:, 3:6]) * frame.inv() * site


def check(action: np.ndarray, position: np.ndarray, rotation: Rotation) -> None:
    converted = to_controller(action)
    np.testing.assert_allclose(converted[:, :3], position, atol=1e-12)
    assert (Rotation.from_rotvec(converted[:, 3:6]) * rotation.inv()).magnitude().max() < 1e-7


# -- what is converted ----------------------------------------------------------------------------


def test_deltas_in_the_world(tmp_path: Path) -> None:
    buffer = load(write(tmp_path / "demo.hdf5"), obs_keys=["object"])
    assert list(buffer.arrays) == ["action", "object"]
    assert buffer.arrays["action"].shape == (50, 10)
    for name, steps in (("demo_0", slice(0, 20)), ("demo_1", slice(20, 50))):
        check(buffer.arrays["action"][steps], *expected(name))
        gripper = demo_arrays(name)["actions"][:, 6]
        np.testing.assert_array_equal(buffer.arrays["action"][steps, 9], gripper)


def test_deltas_of_robosuite_1_4(tmp_path: Path) -> None:
    flat = {"type": "OSC_POSE", "control_delta": True, "damping": 1}
    described = {"env_name": "Lift", "env_version": "1.4.1", "type": 1}
    described["env_kwargs"] = {"robots": ["Panda"], "controller_configs": flat}
    buffer = load(write(tmp_path / "demo.hdf5", described))
    check(buffer.arrays["action"][:20], *expected("demo_0"))


def test_deltas_in_the_frame_of_each_base(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5", env_args(input_ref_frame="base"))
    action = load(path).arrays["action"]
    for name, steps in (("demo_0", slice(0, 20)), ("demo_1", slice(20, 50))):
        frame = Rotation.from_euler("z", BASES[name][1], degrees=True)
        check(action[steps], *expected(name, frame))
    only_last = load(path, max_episodes=1).arrays["action"]
    np.testing.assert_array_equal(only_last, action[:20])


def test_the_rotation_of_the_site_is_taken_where_it_is_observed(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5", env_args() | {})
    change(
        path,
        lambda demo, name: demo.create_dataset(
            "obs/robot0_eef_quat_site",
            data=(
                Rotation.from_quat(demo["obs/robot0_eef_quat"][()])
                * Rotation.from_quat(HAND_TO_SITE)
            ).as_quat(),
        ),
    )
    change(path, lambda demo, name: demo.pop("obs/robot0_eef_quat"))
    check(load(path).arrays["action"][:20], *expected("demo_0"))


def test_two_arms(tmp_path: Path) -> None:
    described = default_env_args("Transport")
    buffer = load(write(tmp_path / "demo.hdf5", described, n_arms=2))
    assert buffer.arrays["action"].shape == (50, 20)
    assert buffer.unscaled == {"action": (3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 18)}
    arrays = demo_arrays("demo_0", 2)
    np.testing.assert_allclose(
        buffer.arrays["action"][:20, 10:13],
        arrays["obs/robot1_eef_pos"] + 0.05 * arrays["actions"][:, 7:10],
    )


def stored_goals(name: str) -> np.ndarray:
    position, rotation = expected(name)
    gripper = demo_arrays(name)["actions"][:, 6:]
    return np.concatenate([position, rotation.as_rotvec(), gripper], axis=1)


def test_stored_goals_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    change(path, lambda demo, name: demo.create_dataset("actions_abs", data=stored_goals(name)))
    change(path, lambda demo, name: demo["actions"].write_direct(np.ones_like(demo["actions"][()])))
    for options in ({}, {"action_key": "actions_abs"}):
        check(load(path, **options).arrays["action"][:20], *expected("demo_0"))


def test_actions_that_env_args_call_absolute(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5", env_args(input_type="absolute"))
    change(path, lambda demo, name: demo["actions"].write_direct(stored_goals(name)))
    check(load(path).arrays["action"][:20], *expected("demo_0"))


def test_goals_that_env_args_call_deltas(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    change(path, lambda demo, name: demo["actions"].write_direct(stored_goals(name)))
    with pytest.warns(
        UserWarning, match=r"element \d is .* outside -1 to 1, but env_args describe"
    ):
        action = load(path).arrays["action"]
    check(action[:20], *expected("demo_0"))


def test_the_default_is_what_is_stored(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    buffer = RobomimicConfig(path=str(path)).load()
    np.testing.assert_array_equal(buffer.arrays["action"][:20], demo_arrays("demo_0")["actions"])
    assert buffer.unscaled == {}


# -- scaling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["limits", "standard"])
def test_rotations_are_not_scaled(tmp_path: Path, mode: str) -> None:
    config = RobomimicConfig(
        path=str(write(tmp_path / "demo.hdf5")), action_space="absolute", validation_ratio=0.0
    )
    bundle = build_datasets(config, 2, 8, 4, mode)
    action = bundle.normalizer["action"]
    assert action.scale[3:9].tolist() == [1] * 6 and action.offset[3:9].tolist() == [0] * 6
    assert (action.scale[:3] > 2).all()
    assert bundle.action_dim == 10
    raw = torch.from_numpy(config.load().arrays["action"])
    chunk = bundle.train.gather_action(torch.tensor([1]))[0]
    torch.testing.assert_close(chunk[:, 3:9], raw[:8, 3:9].float())


def test_selected_episodes_keep_what_is_unscaled(tmp_path: Path) -> None:
    buffer = load(write(tmp_path / "demo.hdf5"))
    assert buffer.select_episodes([1]).unscaled == buffer.unscaled != {}
    assert buffer.select_episodes([0]).unscaled == buffer.unscaled


# -- what is refused ------------------------------------------------------------------------------


def refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(path, **options)
    assert str(path) in str(caught.value)


def test_an_unknown_action_space() -> None:
    with pytest.raises(InputError, match="action_space is 'delta', expected one of stored, abs"):
        RobomimicConfig(action_space="delta")


@pytest.mark.parametrize(
    ("controller", "message"),
    [
        ({"type": "JOINT_VELOCITY"}, "its type is 'JOINT_VELOCITY'; expected OSC_POSE"),
        ({"input_ref_frame": "hand"}, "input_ref_frame is 'hand'"),
    ],
)
def test_controllers(tmp_path: Path, controller: dict[str, Any], message: str) -> None:
    refused(write(tmp_path / "demo.hdf5", env_args(**controller)), message)


def test_no_description(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    with h5py.File(path, "a") as file:
        del file["data"].attrs["env_args"]
    refused(path, "env_args.*absent")


def test_another_number_of_elements(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")

    def edit(demo: h5py.Group, name: str) -> None:
        del demo["actions"]
        demo["actions"] = from_controller(stored_goals(name))

    change(path, edit)
    refused(path, "actions have 10 elements.*absolute already: use action_space=stored")


def test_deltas_beyond_the_controller_are_neither(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    change(path, lambda demo, name: demo["actions"].write_direct(2 * demo["actions"][()]))
    with pytest.warns(UserWarning, match="are taken for goals"):
        refused(
            path, "m and .* rad from its gripper .* another frame than env_args say, or no goals"
        )


def test_goals_in_another_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    shifted = {name: stored_goals(name) - [0, -0.8, 0.9, 0, 0, 0, 0] for name in LENGTHS}
    change(path, lambda demo, name: demo.create_dataset("actions_abs", data=shifted[name]))
    refused(path, r"goals of robot0 are 1\.\d\d m and 0\.\d\d rad from its gripper")


def test_poses_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    change(path, lambda demo, name: demo.pop("obs/robot0_eef_pos"))
    refused(path, "has no obs/robot0_eef_pos")


def test_quaternions_that_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "demo.hdf5")
    zeros = np.zeros((1, 4))
    change(
        path, lambda demo, name: demo["obs/robot0_eef_quat"].write_direct(zeros, None, np.s_[:1])
    )
    refused(path, "obs/robot0_eef_quat holds quaternions that are not of length 1")


def test_an_unknown_gripper(tmp_path: Path) -> None:
    described = env_args()
    described["env_kwargs"]["robots"] = ["Sawyer"]
    refused(write(tmp_path / "demo.hdf5", described), "robot0 is 'Sawyer', whose gripper's")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("", "has no model_file that says where it stands"),
        ("<mujoco>", "cannot be read from model_file: no element found"),
        ("<mujoco><worldbody/></mujoco>", "there is no site 'robot0_right_center'"),
        (SCENE.format(pos="0 0", quat="1 0 0 0"), "body has pos '0 0'"),
        (SCENE.format(pos="0 0 x", quat="1 0 0 0"), "could not convert string to float"),
        (SCENE.format(pos="0 0 0", quat="0 0 0 0"), "cannot be read from model_file"),
        (SCENE.format(pos="0 0 0", quat="1 0 0 0").replace("quat=", "euler="), "body has euler"),
    ],
)
def test_scenes_without_a_base(tmp_path: Path, model: str, message: str) -> None:
    path = write(tmp_path / "demo.hdf5", env_args(input_ref_frame="base"))
    change(path, lambda demo, name: demo.attrs.modify("model_file", model))
    refused(path, message)


# -- in the simulator -----------------------------------------------------------------------------


def test_the_bases_of_a_real_scene() -> None:
    pytest.importorskip("robosuite", reason="the scene is robosuite's")
    from lfm_envs.robosuite.env import RobosuiteEnv

    described = default_env_args("Transport")
    part = described["env_kwargs"]["controller_configs"]["body_parts"]["right"]
    part |= {"input_ref_frame": "base", "input_type": "absolute"}
    env = RobosuiteEnv(env_args=described)
    obs, _ = env.reset(seed=3)
    model, sim = env.state()["model"], env.simulator.sim
    action, arms = [], []
    for arm in range(2):
        site = sim.model.site_name2id(f"robot{arm}_right_center")
        base = Rotation.from_matrix(sim.data.site_xmat[site].reshape(3, 3))
        grip = sim.model.site_name2id(f"gripper{arm}_right_grip_site")
        grip_rotation = Rotation.from_matrix(sim.data.site_xmat[grip].reshape(3, 3))
        in_base = base.inv().apply(sim.data.site_xpos[grip] - sim.data.site_xpos[site])
        action += [*in_base, *(base.inv() * grip_rotation).as_rotvec(), 1]
        arms.append(Poses(*(obs[f"robot{arm}_eef_{k}"][None] for k in ("pos", "quat")), False))
    converted = absolute_actions(
        np.array([action]), arms, described, lambda: [(1, model)], stored_absolute=False, source="x"
    )
    for arm in range(2):
        goal = to_controller(converted)[0, 7 * arm :]
        np.testing.assert_allclose(goal[:3], obs[f"robot{arm}_eef_pos"], atol=1e-6)
        hand = Rotation.from_quat(obs[f"robot{arm}_eef_quat"]) * Rotation.from_quat(HAND_TO_SITE)
        assert (Rotation.from_rotvec(goal[3:6]) * hand.inv()).magnitude() < 1e-6
    env.close()
