"""Robots by name, for ``lfm-policy control POLICY --robot NAME``.

With the package comes one, ``lerobot``: any robot of an installed LeRobot as a file describes it,
which is what ``--robot TYPE --robot-config robot.yaml`` asks for. Environments are robots of their
own kind (`GymRobot`, ``--env``). A plugin adds a function or class that gives a robot that is ready
to move (`lfm_runtime.control.robot.Robot`)::

    @ROBOTS.add("my_arm")
    def my_arm(port: str = "/dev/ttyACM0") -> MyArm:
        return MyArm(connect(port))

Its arguments are what ``--robot-option`` gives, such as ``port=/dev/ttyACM1``. A robot that brings
limits of its own has a method ``prepare(spec, options)``: it checks that the policy fits, and
returns the options of the loop with its limits (see `lfm_policy.control.run_robot`).
"""

from __future__ import annotations

from collections.abc import Callable

from lfm_runtime.control.robot import Robot
from lfm_runtime.registry import Registry

LEROBOT = "lerobot"
"""The name of all robots of LeRobot."""

ROBOTS: Registry[Callable[..., Robot]] = Registry(
    "robot", {LEROBOT: "lfm_policy.control.lerobot.described_robot:DescribedRobot"}
)
