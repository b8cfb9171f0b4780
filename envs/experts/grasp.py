"""Grasping from above: how to turn the gripper, and how to come and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from .hand import OPEN, Hand, Pose, Script, Vector, body_pose


def heading(rotation: Rotation, axis: int = 0) -> float:
    """Return the angle of an axis of a frame around the vertical, in radians."""
    x, y, _ = rotation.as_matrix()[:, axis]
    return float(np.arctan2(y, x))


def smallest(angle: float, symmetry: float = 2 * np.pi) -> float:
    """Return the angle nearest to 0 that is ``angle`` up to multiples of ``symmetry``."""
    return float((angle + symmetry / 2) % symmetry - symmetry / 2)


def downward(yaw: float) -> Rotation:
    """Return the gripper's orientation straight down, its fingers closing in direction ``yaw``."""
    x = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    down = np.array([0.0, 0.0, -1.0])
    return Rotation.from_matrix(np.column_stack([x, np.cross(down, x), down]))


def choose_yaw(
    hand: Hand,
    yaw: float,
    symmetry: float,
    generator: np.random.Generator,
    *,
    reach: float = 1.8,
    allowed: Callable[[float], bool] = lambda yaw: True,
) -> float:
    """Return one of the angles ``yaw`` + k ``symmetry`` that the wrist can reach.

    Any of those within ``reach`` of how the hand is turned at home, or else the nearest one; the
    less the wrist has to turn, the more likely.

    Args:
        hand: whose wrist.
        yaw: one of the angles, in radians.
        symmetry: in radians.
        generator: to choose one.
        reach: in radians.
        allowed: which of the angles will do.
    """
    home = heading(hand.home.rotation)
    turns = smallest(yaw - home, symmetry) + symmetry * np.arange(-6, 7)
    turns = turns[[allowed(home + turn) for turn in turns]]
    turns = turns[np.abs(turns) <= max(reach, np.abs(turns).min() + 1e-9)]
    weights = np.exp(-1.5 * np.abs(turns))
    return float(home + generator.choice(turns, p=weights / weights.sum()))


def pick(
    hand: Hand, grasp: Callable[[], Pose], *, above: float, generator: np.random.Generator
) -> Script:
    """Open, come along the fingers and grasp; ends with the gripper closed, not lifted.

    Args:
        hand: whose.
        grasp: pose of the gripper when it closes; objects still fall when an episode begins.
        above: distance in metres from the grasp at which the straight approach begins.
        generator: for the point at which it begins.
    """
    hand.gripper = OPEN
    x, y = generator.normal(0.0, 0.006, size=2)
    back = Pose(np.array([x, y, -above]), Rotation.identity())
    yield from hand.go(lambda: grasp() * back, within=0.02, turned=0.2)
    yield from hand.go(grasp, within=0.006, turned=0.12, steady=0.5, limit=60)
    return (yield from hand.close())


def slipping(simulator: Any, hand: Hand, body: str, *, slack: float = 0.04) -> Callable[[], bool]:
    """Return a function that says whether a body has left its present place in the hand.

    Args:
        simulator: the robosuite environment.
        hand: that has just closed.
        body: name of the body.
        slack: by how much it may slip, in metres.
    """

    def place() -> Vector:
        return (hand.pose.inverse() * body_pose(simulator, body)).position

    grasped = place()
    return lambda: not np.linalg.norm(place() - grasped) < slack


def bring(hand: Hand, part: Callable[[], Pose], goal: Pose) -> Callable[[], Pose]:
    """Return a function for the pose of the hand that brings a part of what it holds to a goal.

    Things slip between the fingers: where the part is at the moment counts.
    """
    return lambda: goal * (part().inverse() * hand.pose)


def attitude(approach: Vector, closing: Vector) -> Rotation:
    """Return the gripper's orientation with its fingers along ``approach``, closing as given.

    Args:
        approach: direction of the fingers, (3,).
        closing: direction in which they close, (3,); made perpendicular to ``approach``.
    """
    z = approach / np.linalg.norm(approach)
    x = closing - z * (closing @ z)
    x = x / np.linalg.norm(x)
    return Rotation.from_matrix(np.column_stack([x, np.cross(z, x), z]))
