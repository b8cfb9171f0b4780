"""What the numbers of a policy mean, as far as it is known: units, names, and the rate.

Known are the environments of `lfm_envs` by what they are, and LeRobot datasets that are still where
the policy was trained by what they say. Nothing is guessed: of all else it is said that it was not
recorded.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_runtime.disk.input_files import read_json_object

ACTION = "action"
NOT_RECORDED = "not recorded"

_PUSHT_RATE = 10.0
_PUSHT = {
    "agent_pos": "x, y of the agent, pixels of a 512 x 512 board",
    "block_pose": "x, y of the T, pixels; cosine and sine of its angle",
    "keypoints": "x, y of the eight corners of the T, pixels",
    ACTION: "x, y where the agent shall go, pixels",
}
_ROBOSUITE = {
    "eef_pos": "position of the gripper, m",
    "eef_quat": "rotation of the gripper, quaternion x, y, z, w",
    "eef_quat_site": "rotation of the grip site, quaternion x, y, z, w",
    "eef_vel_lin": "velocity of the gripper, m/s",
    "eef_vel_ang": "angular velocity of the gripper, rad/s",
    "gripper_qpos": "joints of the fingers (of a Panda in m)",
    "gripper_qvel": "speeds of the fingers (of a Panda in m/s)",
    "joint_pos": "angles of the joints, rad",
    "joint_pos_cos": "cosines of the angles of the joints",
    "joint_pos_sin": "sines of the angles of the joints",
    "joint_vel": "speeds of the joints, rad/s",
}
_OBJECT = "poses of the task's objects: positions in m, rotations as quaternions"
_DELTA = "of each arm: change of position (3) and of rotation (3), both -1 to 1, gripper (1)"
_GOAL = "of each arm: goal of the gripper, position (3, m) and rotation (6), gripper (1)"
_LEROBOT_INFO = Path("meta") / "info.json"


def meanings(config: ExperimentConfig, keys: Mapping[str, int]) -> dict[str, str]:
    """Return what the numbers of observations and of ``"action"`` are, for those that are known.

    Args:
        config: of the policy.
        keys: numbers in one frame of each.
    """
    if _is_pusht(config):
        known = dict(_PUSHT)
    elif _is_robosuite(config):
        absolute = bool(config.env.options.get("absolute_actions"))
        known = {"object": _OBJECT, ACTION: _GOAL if absolute else _DELTA}
        for key in keys:
            of_robot = re.fullmatch(r"robot\d_(\w+)", key)
            if of_robot and of_robot[1] in _ROBOSUITE:
                known[key] = _ROBOSUITE[of_robot[1]]
    else:
        named = _lerobot_names(config).items()
        known = {
            key: f"{', '.join(names)} (unit {NOT_RECORDED})"
            for key, names in named
            if len(names) == keys.get(key)
        }
    return {key: known[key] for key in keys if key in known}


def rate(config: ExperimentConfig) -> float | None:
    """Return the steps per second of the demonstrations; None where they are not recorded."""
    if _is_pusht(config):
        return _PUSHT_RATE
    if _is_robosuite(config):
        from lfm_envs.robosuite.tasks import CONTROL_FREQUENCY

        described: Any = config.env.options.get("env_args", {}).get("env_kwargs", {})
        return float(described.get("control_freq", CONTROL_FREQUENCY))
    path = dataset_path(config)
    if path is None or not path.exists():
        return None
    with contextlib.suppress(InputError):  # which then is no data to ask
        return config.dataset.facts(path).fps
    return None


def dataset_path(config: ExperimentConfig) -> Path | None:
    """Return where the demonstrations were; None for a format without a path."""
    path = getattr(config.dataset, "path", "")
    return Path(path) if path else None


def _is_pusht(config: ExperimentConfig) -> bool:
    return config.env.id in ("lfm/PushT-v0", "lfm/PushTImage-v0")


def _is_robosuite(config: ExperimentConfig) -> bool:
    from lfm_envs import ENVIRONMENTS

    if config.env.id not in ENVIRONMENTS:
        return False
    return "robosuite" in str(ENVIRONMENTS.get(config.env.id).entry_point)


def _lerobot_names(config: ExperimentConfig) -> dict[str, list[str]]:
    """Return the names of the numbers of each observation and of the action, such as motors."""
    path = dataset_path(config)
    if config.dataset.name != "lerobot" or path is None or not (path / _LEROBOT_INFO).is_file():
        return {}
    from lfm_policy.data.lerobot.info import default_name

    options: Any = config.dataset
    features = read_json_object(path / _LEROBOT_INFO).get("features")
    found = {}
    for key, feature in features.items() if isinstance(features, dict) else ():
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, dict) and len(names) == 1:  # {"motors": [...]}
            (names,) = names.values()
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            name = options.rename.get(key, default_name(key))
            found[ACTION if key == options.action_key else name] = names
    return found
