"""Descriptions of environments, those of robosuite 1.4 among them."""

from __future__ import annotations

import copy
import json
import warnings
from typing import Any

import numpy as np
import pytest
from lfm_envs import EnvArgsError, env_id_of
from lfm_envs.robosuite.args import TranslatedEnvArgsWarning, read_description
from lfm_envs.robosuite.observations import _old_order
from lfm_envs.robosuite.tasks import TASKS, default_env_args

pytestmark = pytest.mark.simulator

INSTALLED = "1.5.1"

OLD: dict[str, Any] = {
    "env_name": "PickPlaceCan",
    "env_version": "1.4.1",
    "type": 1,
    "env_kwargs": {
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "ignore_done": True,
        "use_object_obs": True,
        "use_camera_obs": False,
        "control_freq": 20,
        "controller_configs": {
            "type": "OSC_POSE",
            "input_max": 1,
            "input_min": -1,
            "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
            "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
            "kp": 150,
            "damping": 1,
            "impedance_mode": "fixed",
            "kp_limits": [0, 300],
            "damping_limits": [0, 10],
            "position_limits": None,
            "orientation_limits": None,
            "uncouple_pos_ori": True,
            "control_delta": True,
            "interpolation": None,
            "ramp_ratio": 0.2,
        },
        "robots": ["Panda"],
        "camera_depths": False,
        "camera_heights": 84,
        "camera_widths": 84,
        "reward_shaping": False,
    },
}


def changed(**controller: Any) -> dict[str, Any]:
    env_args = copy.deepcopy(OLD)
    env_args["env_kwargs"]["controller_configs"] |= controller
    return env_args


@pytest.mark.parametrize("task", list(TASKS))
def test_the_descriptions_of_the_tasks_need_no_translation(task: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        description = read_description(json.dumps(default_env_args(task)), INSTALLED)
    assert description.env_name == TASKS[task].env_name
    assert description.rendering == "fast" and not description.old_object_order
    assert env_id_of(default_env_args(task)) == f"lfm/{task}-v0"
    again = read_description(description.to_env_args(INSTALLED), INSTALLED)
    assert again == description


@pytest.mark.parametrize("version", ["1.4.1", None])
def test_a_description_of_robosuite_1_4_is_translated(version: str | None) -> None:
    given = copy.deepcopy(OLD) | {"env_version": version}
    named = "robosuite 1.4.1" if version else "a robosuite before 1.5"
    with pytest.warns(TranslatedEnvArgsWarning, match=f"written by {named}.*robosuite 1.5.1"):
        description = read_description(given, INSTALLED)
    arm = description.kwargs["controller_configs"]["body_parts"]["right"]
    assert description.kwargs["controller_configs"]["type"] == "BASIC"
    assert arm["type"] == "OSC_POSE" and arm["gripper"] == {"type": "GRIP"}
    assert arm["input_type"] == "delta" and arm["input_ref_frame"] == "world"
    assert arm["damping_ratio"] == 1 and arm["damping_ratio_limits"] == [0, 10]
    assert not {"damping", "damping_limits", "control_delta"} & set(arm)
    assert description.kwargs["lite_physics"] is False
    assert description.old_object_order
    # Written again, it is one of 1.5 that remembers the old order.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_description(description.to_env_args(INSTALLED), INSTALLED)
    assert again == description


def test_absolute_control_and_several_controllers_are_translated() -> None:
    given = changed(control_delta=False)
    configs = [given["env_kwargs"]["controller_configs"]] * 2
    given["env_kwargs"]["controller_configs"] = configs
    with pytest.warns(TranslatedEnvArgsWarning):
        translated = read_description(given, INSTALLED).kwargs["controller_configs"]
    assert [c["body_parts"]["right"]["input_type"] for c in translated] == ["absolute"] * 2


@pytest.mark.parametrize(
    "given, message",
    [
        (changed(type="IK_POSE"), "robosuite 1.4.1 .*robosuite 1.5.1: the controller 'IK_POSE'"),
        (changed(position_limits=[[0], [1]]), "robosuite 1.5.1: the controller has position_lim"),
        (OLD | {"env_version": "0.3.0"}, "robosuite 0.3.0 .*robosuite 1.5.1"),
        ("{", "do not parse as JSON"),
        ("[]", "are list; expected an object"),
        ({"env_kwargs": {}}, "no env_name; expected the name"),
        ({"env_name": "Lift", "env_kwargs": 3}, "env_kwargs 3; expected an object"),
        (OLD | {"type": 2}, "type 2: 'PickPlaceCan' is no environment of robosuite"),
        (OLD | {"env_version": 1.4}, "env_version 1.4; expected text"),
        (default_env_args("Lift") | {"lfm_envs": 1}, "lfm_envs is 1"),
        (default_env_args("Lift") | {"lfm_envs": {"rendering": "no"}}, "rendering is 'no'"),
    ],
)
def test_what_cannot_be_used_is_refused(given: Any, message: str) -> None:
    with pytest.raises(EnvArgsError, match=message):
        read_description(given, INSTALLED)


def test_a_later_version_is_taken_with_a_warning() -> None:
    later = default_env_args("Lift") | {"env_version": "1.6.0"}
    with pytest.warns(TranslatedEnvArgsWarning, match=r"robosuite 1.6.0, but 1.5.1 is installed"):
        read_description(later, INSTALLED)


def test_images_of_robomimic_were_rendered_in_full() -> None:
    env_args = default_env_args("Lift")
    env_args["env_kwargs"]["use_camera_obs"] = True
    assert read_description(env_args, INSTALLED).rendering == "full"


def test_the_old_order_of_objects() -> None:
    new = ["X_to_robot0_eef_pos", "X_to_robot0_eef_quat", "X_pos", "X_quat", "assembled"]
    old = ["X_pos", "X_quat", "X_to_robot0_eef_pos", "X_to_robot0_eef_quat", "assembled"]
    assert _old_order(new) == old
    lift = ["cube_pos", "cube_quat", "gripper_to_cube_pos"]
    assert _old_order(lift) == lift


def test_ids_of_descriptions() -> None:
    assert env_id_of({"env_name": "Door", "type": 1, "env_kwargs": {}}) == "lfm/Robosuite-v0"
    assert env_id_of({"env_name": "lfm/PushT-v0", "type": 2, "env_kwargs": {}}) == "lfm/PushT-v0"
    assert env_id_of({"env_name": "unknown", "type": 2, "env_kwargs": {}}) == ""


def test_an_environment_of_a_1_4_file_moves_and_lists_objects_as_it_did() -> None:
    pytest.importorskip("robosuite", reason="the robosuite tasks need the extra 'robosuite'")
    from lfm_envs.robosuite.env import RobosuiteEnv

    with pytest.warns(TranslatedEnvArgsWarning):
        old = RobosuiteEnv(env_args=OLD)
    new = RobosuiteEnv("Can")
    first, second = old.reset(seed=3)[0], new.reset(seed=3)[0]
    pose, relative = second["object"][7:], second["object"][:7]
    np.testing.assert_array_equal(first["object"], np.concatenate([pose, relative]))
    start = first["robot0_eef_pos"]
    for _ in range(10):
        obs, *_ = old.step([0, 1.0, 0, 0, 0, 0, -1])
    moved = obs["robot0_eef_pos"] - start
    assert moved[1] > 0.05 and abs(moved[0]) < 0.02
    old.close()
    new.close()


def test_what_robosuite_refuses_is_an_error_with_its_name() -> None:
    pytest.importorskip("robosuite", reason="the robosuite tasks need the extra 'robosuite'")
    from lfm_envs.robosuite.env import RobosuiteEnv

    unknown = default_env_args("Lift") | {"env_name": "Lfit"}
    with pytest.raises(EnvArgsError, match=r"robosuite 1.5.\d+ cannot create 'Lfit'"):
        RobosuiteEnv(env_args=unknown)
    wrong = default_env_args("Lift")
    wrong["env_kwargs"]["no_such_option"] = 1
    with pytest.raises(EnvArgsError, match="cannot create 'Lift'.*no_such_option"):
        RobosuiteEnv(env_args=wrong)
    with pytest.raises(EnvArgsError, match="describe 'Lift'; expected 'PickPlaceCan'"):
        RobosuiteEnv("Can", env_args=default_env_args("Lift"))
