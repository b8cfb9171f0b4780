"""Where ``lfm-policy control`` runs a policy: which robot or environment, from what was asked."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lfm_policy.cli.common import key_values, refuse_given

if TYPE_CHECKING:
    from lfm_policy.config import EnvConfig
    from lfm_runtime.control import Recorder


def check_together(arguments: argparse.Namespace) -> None:
    """Refuse options that would do nothing beside the others.

    Raises:
        InputError: there are some.
    """
    from lfm_policy.errors import InputError

    if arguments.robot and arguments.env:
        raise InputError(f"--robot {arguments.robot} and --env {arguments.env}: give one of them")
    if arguments.record_obs and arguments.record is None:
        raise InputError("--record-obs says what else is written: give --record FOLDER.zarr too")
    if arguments.robot:
        why = "is of environments, and a robot is run: leave it out"
        refuse_given(arguments, ["env_option", "observation", "success"], why)
    else:
        refuse_given(arguments, ["robot_option"], "needs --robot: leave it out")


def check_simulated(robot: Any, arguments: argparse.Namespace) -> None:
    """Stop a robot that is not simulated where time would be.

    Raises:
        InputError: it is one.
        RobotError: and cannot be stopped.
    """
    from lfm_policy.control.own_robot import OwnRobot
    from lfm_policy.errors import InputError

    if arguments.simulated and not getattr(robot, "simulated", False):
        own = OwnRobot(robot)
        with own.named():
            own.stop()  # it may be connected and under power already
        raise InputError(
            "--simulated: a real robot is driven in real time; one that is only simulated says so "
            "by an attribute simulated = True"
        )


def robot_of(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Return the name of the robot in the list of all, and its options; "": an environment.

    Raises:
        InputError: there is none of this name, or what is asked makes no sense for one of LeRobot.
    """
    from lfm_policy.control.robots import LEROBOT, ROBOTS
    from lfm_policy.errors import InputError
    from lfm_runtime.registry import nearest_names

    name, options = arguments.robot or "", key_values(arguments.robot_option)
    file = arguments.robot_config
    if file is not None:
        if not name:
            raise InputError(
                f"--robot-config {file}: give the type of robot that LeRobot knows too, such as "
                "--robot so101_follower"
            )
        if options:
            raise InputError(
                f"--robot-option: what the robot takes stands in --robot-config {file}"
            )
        name, options = LEROBOT, {"type": name, "config": file}
    elif name and name not in ROBOTS:
        raise InputError(
            f"unknown robot '{name}': {nearest_names(name, ROBOTS.names())}; one of LeRobot needs "
            "--robot-config robot.yaml, one of yours --plugin"
        )
    if name == LEROBOT and arguments.simulated:
        raise InputError("--simulated: robots of LeRobot are driven in real time")
    return name, options


def made_robot(name: str, options: dict[str, Any]) -> Any:
    """Return a robot of the list of all.

    Raises:
        InputError: it does not take these options, or says itself what is wrong.
        RobotError: its own code raised something else.
    """
    from lfm_policy.control.own_robot import raised
    from lfm_policy.control.robots import ROBOTS
    from lfm_policy.errors import InputError, RobotError

    try:
        return ROBOTS.make(name, **options)
    except InputError:
        raise
    except Exception as error:
        raise RobotError(f"the robot '{name}' cannot be made: {raised(error)}") from error


@contextmanager
def with_recorded(recorder: Recorder) -> Iterator[None]:
    """Add to what is said of a robot that failed what was recorded; it is closed inside."""
    from lfm_policy.errors import RobotError

    try:
        yield
    except RobotError as error:
        raise RobotError(f"{error}; {recorded(recorder)}") from error.__cause__


def recorded(recorder: Recorder) -> str:
    """Return what a recording that is closed has kept."""
    if recorder.error is not None:
        return (
            f"the recording is not complete: {recorder.error}; kept: {recorder.actions_kept} "
            f"actions{f' in {recorder.path}' if recorder.actions_kept else ''}"
        )
    return f"recorded: {recorder.path}" if recorder.actions_kept else "nothing was recorded"


def environment_of_policy(policy: Any, name: str) -> EnvConfig:
    """Return the environment that a policy was trained for; one without a name if it is not known.

    Raises:
        InputError: an export names one that cannot be.
    """
    from lfm_policy.config import EnvConfig, config_from_dict

    if (described := getattr(policy, "description", None)) is not None:  # an export
        return config_from_dict({"env": dict(described.env)}, name).env
    return policy.config.env if hasattr(policy, "config") else EnvConfig()


def observations_of(env: Any, place: str, names: list[str]) -> list[str]:
    """Return the observations named, all of an environment for ``all``.

    Raises:
        InputError: an environment gives no such observation, or ``all`` are asked of a robot.
    """
    from lfm_policy.errors import InputError

    known = getattr(getattr(env, "observation_space", None), "spaces", None)
    if known is None:
        if names == ["all"]:
            raise InputError(f"--record-obs all: what '{place}' gives is not known; name them")
        return names
    if names == ["all"]:
        return list(known)
    if missing := [name for name in names if name not in known]:
        raise InputError(
            f"--record-obs: environment '{place}' gives no {', '.join(missing)}: it gives "
            f"{', '.join(known)}"
        )
    return names
