"""Square (NutAssemblySquare): put a square nut on the square peg."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from .expert import Expert
from .grasp import choose_yaw, downward, heading, pick, slipping
from .hand import Hand, Pose, Script, body_pose, site_pose

_NUT = "SquareNut_main"


class SquareExpert(Expert):
    """Grasps the nut by its handle, aligns its hole with the peg and lowers it."""

    def attempt(self, simulator: Any, hand: Hand) -> Script:
        """Yield the actions of one attempt."""
        generator = self.generator
        # The fingers close across the handle, which points along the nut's x axis.
        across = heading(body_pose(simulator, _NUT).rotation, axis=1)
        yaw = choose_yaw(hand, across, np.pi, generator, reach=1.7)
        offset = np.array([generator.uniform(0.002, 0.018), generator.normal(0.0, 0.003), 0.0])
        height = generator.uniform(-0.004, 0.004)
        grip = downward(yaw + generator.normal(0.0, 0.05))

        def grasp() -> Pose:
            handle = site_pose(simulator, "SquareNut_handle_site")
            return Pose(handle.position + handle.rotation.apply(offset), grip).moved(z=height)

        above = self.style.haste * generator.uniform(0.06, 0.14)
        yield from pick(hand, grasp, above=above, generator=generator)
        yield from self._put_on_peg(simulator, hand)
        yield from hand.open()
        x, y = generator.normal(0.0, 0.01, size=2)
        away = hand.pose.moved(x, y, 0.1)
        return (yield from hand.go(away, within=0.03, turned=0.5, limit=30))

    def _put_on_peg(self, simulator: Any, hand: Hand) -> Script:
        generator = self.generator
        lost = slipping(simulator, hand, _NUT)
        peg = body_pose(simulator, "peg1").position
        top = peg[2] + 0.1
        height = self.style.haste * generator.uniform(0.04, 0.08)
        here = hand.pose
        lifted = here.moved(z=top + 0.03 + height - here.position[2])
        yield from hand.go(lifted, within=0.03, turned=0.3, unless=lost)
        relative = heading(hand.pose.rotation) - heading(body_pose(simulator, _NUT).rotation)

        def in_reach(yaw: float) -> bool:
            # The arm does not reach over the peg: the handle must not point away from the robot.
            return bool(np.cos(yaw - relative) < 0.5)

        # A square fits in four ways.
        yaw = choose_yaw(hand, relative, np.pi / 2, generator, reach=1.9, allowed=in_reach)
        flat = Rotation.from_euler("z", yaw - relative)

        def over_peg(z: float) -> Pose:
            # The nut may have slipped between the fingers: where it is counts.
            nut_in_hand = hand.pose.inverse() * body_pose(simulator, _NUT)
            return Pose(np.array([*peg[:2], z]), flat) * nut_in_hand.inverse()

        above, near = top + 0.02 + height, top + generator.uniform(0.015, 0.03)
        deep = top - generator.uniform(0.03, 0.1)
        carried = yield from hand.go(
            lambda: over_peg(above), within=0.02, turned=0.15, limit=80, unless=lost
        )
        if not carried:
            return False
        yield from hand.go(
            lambda: over_peg(near), within=0.004, turned=0.05, steady=0.6, limit=40, unless=lost
        )
        return (
            yield from hand.go(
                lambda: over_peg(deep), within=0.01, turned=0.3, steady=0.7, limit=40, unless=lost
            )
        )
