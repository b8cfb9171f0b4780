"""Robots by name, for ``lfm-policy control POLICY --robot NAME``.

None comes with the package, which cannot know whose arm hangs at which port; environments are
robots of their own kind (`GymRobot`, ``--env``). A plugin adds a function or class that gives a
robot that is ready to move (`lfm_runtime.control.robot.Robot`), such as a LeRobot one::

    @ROBOTS.add("my_arm")
    def my_arm(port: str = "/dev/ttyACM0") -> LeRobotRobot:
        robot = SO101Follower(SO101FollowerConfig(port=port))
        robot.connect()
        return LeRobotRobot(robot)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from lfm_policy.errors import InputError
from lfm_runtime.control.robot import Robot
from lfm_runtime.registry import Registry

ROBOTS: Registry[Callable[..., Robot]] = Registry("robot", {})


def make_robot(name: str, options: Mapping[str, Any]) -> Robot:
    """Return a robot that is ready to move.

    Args:
        name: one of `ROBOTS`.
        options: arguments of its function.

    Raises:
        InputError: there is no such robot, or it does not take these options.
    """
    make = ROBOTS.get(name)
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        raise InputError(f"robot '{name}' does not take the options given: {error}") from None
    return make(**options)
