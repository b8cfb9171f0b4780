"""Robots by name, for ``lfm-policy control POLICY --robot NAME``.

None comes with the package, which cannot know whose arm hangs at which port; environments are
robots of their own kind (`GymRobot`, ``--env``). A plugin adds a function or class that gives a
robot that is ready to move (`lfm_runtime.control.robot.Robot`), such as a LeRobot one::

    @ROBOTS.add("my_arm")
    def my_arm(port: str = "/dev/ttyACM0") -> LeRobotRobot:
        robot = SO101Follower(SO101FollowerConfig(port=port))
        robot.connect()
        return LeRobotRobot(robot)

Its arguments are what ``--robot-option`` gives, such as ``port=/dev/ttyACM1``.
"""

from __future__ import annotations

from collections.abc import Callable

from lfm_runtime.control.robot import Robot
from lfm_runtime.registry import Registry

ROBOTS: Registry[Callable[..., Robot]] = Registry("robot", {})
