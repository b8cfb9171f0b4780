"""The robot types of an installed LeRobot, 0.4 to 0.6, and those that its plugins add."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Mapping
from typing import Any

from lfm_policy.errors import InputError, brief
from lfm_runtime.registry import nearest_names

OLDEST = (0, 4)


def make_lerobot_robot(kind: str, given: Mapping[str, Any], label: str) -> Any:
    """Return a robot of LeRobot that is not connected yet.

    Args:
        kind: its type, such as ``so101_follower``: a name in LeRobot's registry.
        given: what the configuration of that type takes, as plain values.
        label: what to call the place of ``given`` in messages.

    Raises:
        InputError: LeRobot is not there or too old, knows no such type, or refuses the values.
    """
    version = _version()
    try:
        robots = importlib.import_module("lerobot.robots")
        broken = _register_all()
    except ImportError as error:
        raise InputError(f"LeRobot {version} cannot be imported: {brief(error)}") from error
    known = robots.RobotConfig.get_known_choices()
    left_out = "".join(f"; {name} cannot be imported: {why}" for name, why in broken.items())
    if kind not in known:
        near = nearest_names(kind, sorted(known))
        listed = "" if near.startswith("known") else f" known: {', '.join(sorted(known))}"
        raise InputError(f"LeRobot {version} has no robot '{kind}': {near}{listed}{left_out}")
    config_class = known[kind]
    values = dict(given)
    if (other := values.pop("type", kind)) != kind:
        raise InputError(f"{label}: robot.type is '{other}', but the robot asked for is '{kind}'")
    try:
        config = importlib.import_module("draccus").decode(config_class, values)
    except Exception as error:  # it raises whatever the types of the fields raise
        takes = ", ".join(field.name for field in dataclasses.fields(config_class))
        raise InputError(
            f"{label}: LeRobot's '{kind}' refuses this: {_said(error)}; it takes {takes}{left_out}"
        ) from None
    try:
        return robots.make_robot_from_config(config)
    except Exception as error:  # a library of its motors may be missing, and raise what it likes
        raise InputError(f"{label}: LeRobot cannot make '{kind}': {_said(error)}") from error


def motor_units(robot: Any) -> dict[str, str]:
    """Return what the positions of a robot's motors are measured in, as LeRobot calls it.

    By the names of its actions, such as ``gripper.pos``; those of its two arms, if it has two.
    What has no such motors is not there.
    """
    units = {}
    for prefix, arm in (
        ("", robot),
        ("left_", _arm(robot, "left")),
        ("right_", _arm(robot, "right")),
    ):
        for name, motor in dict(getattr(getattr(arm, "bus", None), "motors", {})).items():
            mode = getattr(motor, "norm_mode", None)
            units[f"{prefix}{name}.pos"] = str(getattr(mode, "value", mode) or "")
    return units


def _arm(robot: Any, side: str) -> Any:
    return getattr(robot, f"{side}_arm", None)


def _version() -> str:
    if importlib.util.find_spec("lerobot") is None:
        raise InputError(
            "LeRobot is not installed here: its robots need it, such as pip install "
            "'lerobot[feetech]' (0.4 to 0.6) for the SO-101; a robot without it is a plugin "
            "(--robot my_arm --plugin my_arm.py)"
        )
    try:
        version = importlib.metadata.version("lerobot")
    except importlib.metadata.PackageNotFoundError:  # on the path, but not installed
        return "of an unknown version"
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < OLDEST:
        raise InputError(f"LeRobot {version} is installed, expected 0.4 or later: upgrade it")
    return version


def _register_all() -> dict[str, str]:
    """Import everything that adds robots and cameras; return what could not be, and why."""
    broken = {}
    for place in ("lerobot.robots", "lerobot.cameras"):
        for module in pkgutil.iter_modules(importlib.import_module(place).__path__, f"{place}."):
            if module.ispkg:
                try:
                    importlib.import_module(module.name)
                except Exception as error:  # drivers look at machines when they are imported
                    broken[module.name] = brief(error)
    tools = importlib.import_module("lerobot.utils.import_utils")
    register = getattr(tools, "register_third_party_plugins", None)
    (register or tools.register_third_party_devices)()  # as it is called up to 0.4.2
    return broken


def _said(error: BaseException) -> str:
    """Return what an error says in one line, at most 400 characters of it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
