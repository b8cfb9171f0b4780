"""Lift: raise a cube above the table."""

from __future__ import annotations

from typing import Any

import numpy as np

from .expert import Expert
from .grasp import choose_yaw, downward, heading, pick, slipping
from .hand import Hand, Pose, Script, body_pose


class LiftExpert(Expert):
    """Grasps the cube by a pair of opposite faces and lifts it; tries again when it slips."""

    def script(self, simulator: Any, *hands: Hand) -> Script:
        """Yield the actions of the episode."""
        (hand,) = hands
        while True:
            yield from self.attempt(simulator, hand)

    def attempt(self, simulator: Any, hand: Hand) -> Script:
        """Yield the actions of one attempt."""
        generator = self.generator
        cube = body_pose(simulator, "cube_main")
        yaw = choose_yaw(hand, heading(cube.rotation), np.pi / 2, generator)
        yaw += generator.normal(0.0, 0.08)
        offset = generator.normal(0.0, 0.004, size=3)
        offset[2] = np.clip(offset[2], -0.006, 0.01)

        def grasp() -> Pose:
            return Pose(body_pose(simulator, "cube_main").position + offset, downward(yaw))

        above = self.style.haste * generator.uniform(0.04, 0.1)
        yield from pick(hand, grasp, above=above, generator=generator)
        lost = slipping(simulator, hand, "cube_main")
        x, y = generator.normal(0.0, 0.02, size=2)
        lifted = hand.pose.moved(x, y, generator.uniform(0.1, 0.16))
        yield from hand.go(lifted, within=0.02, unless=lost)
        while not lost():
            yield hand.still()
        return False
