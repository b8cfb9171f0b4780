"""ToolHang: insert a hook into a stand and hang a wrench on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from .expert import Expert
from .grasp import attitude, bring, pick, slipping
from .hand import CLOSED, OPEN, Hand, Pose, Script, Vector, body_pose, site_pose

_UP = np.array([0.0, 0.0, 1.0])

_FRAME_GRIP = np.array([0.0438, 0.0, 0.0525])
"""Middle of the hook's grip in its own frame, z along its shaft, in metres."""

_HOLE = np.array([0.0, 0.045, 0.08])
"""Middle of the upper end of the stand's hole in the stand's frame, in metres."""

_DOWN = -0.135
"""Height of the tip over that end when the hook is all the way down, in metres."""

_Offset = Callable[[], Vector]
_Check = Callable[[], bool]
_Goals = Callable[[float], Callable[[], Pose]]


class ToolHangExpert(Expert):
    """Takes the hook by its grip, raises it, inserts it; puts the wrench's ring over its end."""

    def attempt(self, simulator: Any, hand: Hand) -> Script:
        """Yield the actions of one attempt."""
        assembled = simulator._check_frame_assembled()
        step = self._hang_tool if assembled else self._insert_frame
        return (yield from step(simulator, hand))

    def _insert_frame(self, simulator: Any, hand: Hand) -> Script:
        generator = self.generator
        # The smaller the lean, the flatter the arm has to reach in the end.
        lean = generator.uniform(0.68, 0.82)
        slide = np.array([0.0, 0.0, generator.uniform(-0.012, 0.008)])

        def grasp() -> Pose:
            frame = body_pose(simulator, "frame_root")
            across, _, along = frame.rotation.as_matrix().T
            down = -_UP * np.cos(lean) - along * np.sin(lean)
            at = frame.position + frame.rotation.apply(_FRAME_GRIP + slide)
            return Pose(at, attitude(down, -across))

        above = 0.04 + self.style.haste * generator.uniform(0.05, 0.1)
        yield from hand.go(lambda: grasp().moved(z=0.12), within=0.04, turned=0.3)
        yield from pick(hand, grasp, above=above, generator=generator)
        lost = slipping(simulator, hand, "frame_root", slack=0.05)
        stand = body_pose(simulator, "stand_root")
        hole = stand.position + stand.rotation.apply(_HOLE)
        # The shaft vertical, the arm of the hook to the left of the robot.
        upright = Rotation.from_matrix(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1.0]]))
        # Right in front of the arm: aside of that plane its wrist is close to a singular posture.
        base = body_pose(simulator, "robot0_base").position
        x, y = hole[:2] - base[:2]
        azimuth = np.arctan2(y, x) + generator.normal(0.0, 0.02)
        upright = Rotation.from_euler("z", azimuth) * upright

        def tip() -> Pose:
            return site_pose(simulator, "frame_tip_site")

        def off() -> Vector:
            return tip().position - hole

        def over(height: float) -> Callable[[], Pose]:
            return bring(hand, tip, Pose(hole + height * _UP, upright))

        yield from hand.go(hand.pose.moved(z=0.15), within=0.05, turned=0.5, unless=lost)
        # First the wrist turns, then it rises: both at once would end in another posture of the
        # arm, from which it cannot go on.
        level = upright * Rotation.from_euler("x", -generator.uniform(1.1, 1.4))
        place = np.array([0.9 * x, 0.9 * y, 0.2]) + base + generator.normal(0.0, 0.015, size=3)
        yield from hand.go(
            lambda: Pose(place, level * (tip().rotation.inv() * hand.pose.rotation)),
            within=0.05,
            turned=0.12,
            unless=lost,
        )
        high = self.style.haste * generator.uniform(0.03, 0.07)
        yield from hand.go(over(0.02 + high), within=0.015, turned=0.12, unless=lost)
        deep = -generator.uniform(0.06, 0.08)  # from there it falls by itself
        for _ in range(4):
            yield from self._align(hand, off, over, lost)
            if (yield from self._lower(hand, off, over, lost, deep)) or lost():
                break
        yield from hand.open()
        yield from self._back_off(hand)
        if off()[2] > _DOWN:
            yield from self._press(simulator, hand, hole)
        # Around the hook, which stands between the hand and the wrench.
        aside = Pose(np.array([-0.18, -0.15, 1.08]), hand.home.rotation)
        return (yield from hand.go(aside, within=0.05, turned=0.5))

    def _press(self, simulator: Any, hand: Hand, hole: Vector) -> Script:
        """Push down a hook that stands in the hole but is stuck in it."""

        def top() -> Pose:
            return site_pose(simulator, "frame_intersection_site")

        def down() -> bool:
            return bool(site_pose(simulator, "frame_tip_site").position[2] - hole[2] < _DOWN)

        if top().rotation.as_matrix()[2, 2] < 0.9:
            return False
        hand.gripper = CLOSED
        above = Pose(top().position + 0.06 * _UP, hand.home.rotation)
        yield from hand.go(above, within=0.012, turned=0.2, unless=down)
        yield from hand.go(above.moved(z=-0.2), within=0.01, limit=30, unless=down)
        hand.gripper = OPEN
        return (yield from hand.go(above, within=0.03, turned=0.4))

    def _align(self, hand: Hand, off: _Offset, over: _Goals, lost: _Check) -> Script:
        """Hold the tip over the hole until it stays there."""
        still = 0
        for _ in range(50):
            x, y, z = off()
            still = still + 1 if np.hypot(x, y) < 0.002 and z < 0.02 else 0
            if still == 3 or lost():
                break
            yield hand.towards(over(0.01)(), steady=0.95, speed=0.6)
        return still == 3

    def _lower(self, hand: Hand, off: _Offset, over: _Goals, lost: _Check, deep: float) -> Script:
        """Lower the tip into the hole; False if it gets stuck on the rim."""
        lowest, since = np.inf, 0
        while since < 12 and not lost():
            height = off()[2]
            if height < deep:
                return True
            since = 0 if height < lowest - 0.001 else since + 1
            lowest = min(lowest, height)
            # A little at a time: a large step down would leave no strength for the rest. Once the
            # tip is in, the hole guides it.
            turning = 1.0 if height > -0.01 else 0.15
            yield hand.towards(over(height - 0.015)(), steady=0.9, turning=turning)
        return bool(lowest < 0.8 * deep)

    def _hang_tool(self, simulator: Any, hand: Hand) -> Script:
        generator = self.generator
        slide = generator.uniform(-0.005, 0.02)

        def grasp() -> Pose:
            tool = body_pose(simulator, "tool_root")
            along, across, _ = tool.rotation.as_matrix().T
            return Pose(tool.position + slide * along, attitude(-_UP, across))

        above = self.style.haste * generator.uniform(0.08, 0.14)
        yield from pick(hand, grasp, above=above, generator=generator)
        lost = slipping(simulator, hand, "tool_root", slack=0.05)

        def ring() -> Pose:
            return site_pose(simulator, "tool_hole1_center")

        end = site_pose(simulator, "frame_hang_site").position
        corner = site_pose(simulator, "frame_intersection_site").position
        outward = (end - corner) / np.linalg.norm(end - corner)
        outward[2] = 0.0

        def hung(out: float, up: float, dip: float) -> Callable[[], Pose]:
            """Ring at a place relative to the hook's end, the handle lowered by ``dip``."""
            goal = Pose(end + out * outward + up * _UP, _lowered(outward, dip))
            return bring(hand, ring, goal)

        x, y = generator.normal(0.0, 0.02, size=2)
        yield from hand.go(hand.pose.moved(x, y, 0.25), within=0.04, turned=0.5, unless=lost)
        # More than half a turn of the wrist, in the direction in which it does not get stuck.
        heading = _lowered(outward, 0.0)
        for turn in (-1.6, -0.8):
            goal = Rotation.from_euler("z", turn) * heading
            place = Pose(end + np.array([0.0, 0.06 + 0.05 * turn, 0.12]), goal)
            yield from hand.go(bring(hand, ring, place), within=0.06, turned=0.5, unless=lost)
        dip = generator.uniform(0.35, 0.6)
        yield from hand.go(hung(0.0, 0.06, dip), within=0.015, turned=0.12, unless=lost)
        for goal, within, turned, steady, limit in (
            (hung(-0.003, 0.03, dip), 0.003, 0.04, 0.9, 60),
            (hung(-0.005, 0.004, dip), 0.004, 0.08, 0.9, 40),
            (hung(-0.012, 0.0, dip + 0.3), 0.006, 0.1, 0.8, 15),
        ):
            yield from hand.go(
                goal, within=within, turned=turned, steady=steady, limit=limit, unless=lost
            )
        yield from hand.open()
        return (yield from self._back_off(hand))

    def _back_off(self, hand: Hand) -> Script:
        back = hand.pose * Pose(np.array([0.0, 0.0, -0.1]), Rotation.identity())
        return (yield from hand.go(back, within=0.03, turned=0.4, limit=40))


def _lowered(outward: Vector, dip: float) -> Rotation:
    """Return the wrench's orientation: handle outwards from the hook, lowered by an angle."""
    along = np.cos(dip) * outward - np.sin(dip) * _UP
    across = np.cross(_UP, outward)
    return Rotation.from_matrix(np.column_stack([along, across, np.cross(along, across)]))
