"""One arm of a robosuite robot: where its gripper is, and actions that bring it elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from .tremor import next_tremor

Vector = NDArray[np.float64]
Script = Generator[Vector, None, bool]
"""Actions of one arm, one a step: (7,), position 3, axis-angle 3, gripper, all from -1 to 1.

What it returns in the end says whether it worked out.
"""

OPEN, CLOSED = -1.0, 1.0

_METRES, _RADIANS = 0.05, 0.5
"""What an action of 1 means to robosuite's OSC_POSE controller."""

_NOISE_MEMORY = 0.7
"""Hands tremble slowly: this part of the noise is left one step later."""


@dataclass(frozen=True)
class Pose:
    """Position (3,) in metres and orientation in the world."""

    position: Vector
    rotation: Rotation

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Pose:
        """Return the pose shifted along the world's axes, in metres."""
        return Pose(self.position + np.array([x, y, z]), self.rotation)

    def __mul__(self, other: Pose) -> Pose:
        """Return the pose ``other``, given in the frame of this one, in the world."""
        return Pose(
            self.position + self.rotation.apply(other.position), self.rotation * other.rotation
        )

    def inverse(self) -> Pose:
        """Return the pose of the world in the frame of this one."""
        rotation = self.rotation.inv()
        return Pose(-rotation.apply(self.position), rotation)


Target = Pose | Callable[[], Pose]
"""Where to go; a function where the place moves."""


def body_pose(simulator: Any, name: str) -> Pose:
    """Return where a body of the simulation is."""
    data = simulator.sim.data
    quaternion = np.asarray(data.get_body_xquat(name))
    return Pose(
        np.array(data.get_body_xpos(name)), Rotation.from_quat(quaternion, scalar_first=True)
    )


def site_pose(simulator: Any, name: str) -> Pose:
    """Return where a site of the simulation is."""
    data = simulator.sim.data
    matrix = np.asarray(data.get_site_xmat(name)).reshape(3, 3)
    return Pose(np.array(data.get_site_xpos(name)), Rotation.from_matrix(matrix))


@dataclass(frozen=True)
class Style:
    """Habits of a demonstrator during one episode.

    Attributes:
        speed: largest part of the controller's range that an action uses, 0 to 1.
        gain: how strongly an action answers to the distance that remains.
        noise: standard deviation of the noise on actions, in their units of -1 to 1.
        pause: probability of hesitating after a movement.
        looseness: factor on the distances at which a movement counts as done.
        haste: factor below 1 on the height of the detours over objects.
    """

    speed: float
    gain: float
    noise: float
    pause: float
    looseness: float
    haste: float

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Style:
        """Return the habits of a random demonstrator."""
        return cls(
            speed=float(generator.uniform(0.6, 1.0)),
            gain=float(generator.uniform(1.0, 1.6)),
            noise=float(generator.uniform(0.02, 0.12)),
            pause=float(generator.uniform(0.0, 0.25)),
            looseness=float(generator.uniform(0.8, 1.5)),
            haste=float(generator.uniform(0.6, 1.2)),
        )


class Hand:
    """The gripper of robot ``index``, which a demonstrator moves in his own style.

    Attributes:
        gripper: what the gripper is told with every action, OPEN or CLOSED.
        home: pose at the time of creation.
    """

    def __init__(
        self, simulator: Any, index: int, style: Style, generator: np.random.Generator
    ) -> None:
        self._simulator = simulator
        self._robot = simulator.robots[index]
        self._arm = self._robot.arms[0]
        self._site = self._robot.gripper[self._arm].important_sites["grip_site"]
        self._style = style
        self._generator = generator
        self._tremor = np.zeros(6)
        self._lag = np.zeros(6)
        self.gripper = OPEN
        self.home = self.pose

    @property
    def pose(self) -> Pose:
        """Where the gripper is: z along the fingers, x in the direction in which they close."""
        return site_pose(self._simulator, self._site)

    @property
    def opening(self) -> float:
        """Distance between the fingers, in metres."""
        indices = self._robot._ref_gripper_joint_pos_indexes[self._arm]
        return float(np.abs(self._simulator.sim.data.qpos[indices]).sum())

    def towards(
        self, target: Pose, *, speed: float = 1.0, steady: float = 0.0, turning: float = 1.0
    ) -> Vector:
        """Return the action (7,) that brings the gripper nearer to a pose.

        Args:
            target: where to.
            speed: factor on the demonstrator's speed.
            steady: part of the noise that is suppressed, 0 to 1.
            turning: factor on the rotation; near 0 the hand gives way to what turns it.
        """
        here = self.pose
        controller = self._robot.part_controllers[self._arm]
        frame = Rotation.identity()
        if controller.input_ref_frame == "base":
            frame = Rotation.from_matrix(controller.origin_ori).inv()
        shift = target.position - here.position
        turn = (target.rotation * here.rotation.inv()).as_rotvec()
        command = np.concatenate([frame.apply(shift) / _METRES, frame.apply(turn) / _RADIANS])
        command *= self._style.gain
        # What the arm carries pulls it down: a slow correction of the error that stays.
        if float(np.linalg.norm(shift)) < 0.02 and float(np.linalg.norm(turn)) < 0.1:
            self._lag = np.clip(self._lag + 0.04 * command, -0.2, 0.2)
        else:
            self._lag = np.zeros(6)
        command += self._lag
        command[3:] *= turning
        limit = self._style.speed * speed
        for part in (command[:3], command[3:]):
            part *= min(1.0, limit / max(float(np.abs(part).max()), 1e-9))
        return self._finish(command, steady)

    def still(self) -> Vector:
        """Return the action (7,) that leaves the gripper where it is, but for the tremor."""
        return self._finish(np.zeros(6), steady=0.7)

    def _finish(self, command: Vector, steady: float) -> Vector:
        self._tremor = next_tremor(self._tremor, self._generator, memory=_NOISE_MEMORY)
        scale = np.repeat([1.0, 0.3], 3) * self._style.noise * (1 - steady)
        return np.append(np.clip(command + scale * self._tremor, -1.0, 1.0), self.gripper)

    def go(
        self,
        target: Target,
        *,
        within: float = 0.01,
        turned: float = 0.1,
        steady: float = 0.0,
        limit: int = 100,
        unless: Callable[[], bool] = lambda: False,
    ) -> Script:
        """Move to a pose; ends when it is reached, or after ``limit`` steps, and says which.

        Args:
            target: where to.
            within: distance in metres at which the pose counts as reached, before looseness.
            turned: the same for the angle, in radians.
            steady: part of the noise that is suppressed, 0 to 1.
            limit: in steps.
            unless: ends the movement at once when it becomes true.
        """
        self._lag = np.zeros(6)
        for _ in range(limit):
            goal = target() if callable(target) else target
            if unless():
                return False
            if self.reached(goal, within=within, turned=turned):
                return (yield from self.hesitate())
            yield self.towards(goal, steady=steady)
        return False

    def reached(self, goal: Pose, *, within: float, turned: float) -> bool:
        """Whether the gripper is nearer to a pose than these tolerances, before looseness."""
        here, looseness = self.pose, self._style.looseness
        distance = float(np.linalg.norm(goal.position - here.position))
        angle = (goal.rotation * here.rotation.inv()).magnitude()
        return bool(distance < within * looseness and angle < turned * looseness)

    def hesitate(self) -> Script:
        """Pause for a few steps, or do not, as the demonstrator is inclined."""
        if self._generator.random() < self._style.pause:
            for _ in range(int(self._generator.integers(2, 7))):
                yield self.still()
        return True

    def close(self, steps: int = 8) -> Script:
        """Close the gripper and stay, for ``steps`` steps or a few more."""
        self.gripper = CLOSED
        here = self.pose
        for _ in range(steps + int(self._generator.integers(0, 4))):
            yield self.towards(here, steady=0.7)  # corrects what the arm drifts
        return True

    def open(self, wide: float = 0.065) -> Script:
        """Open the gripper without moving, until the fingers are ``wide`` apart, in metres.

        It takes the gripper half a second to turn round: who leaves earlier drags things along.
        """
        self.gripper = OPEN
        for _ in range(15):
            if self.opening > wide:
                break
            yield self.still()
        return True
