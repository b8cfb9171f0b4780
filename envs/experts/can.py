"""Can (PickPlaceCan): carry a can from one bin to its compartment of the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .expert import Expert
from .grasp import choose_yaw, downward, pick, slipping
from .hand import Hand, Pose, Script, body_pose


class CanExpert(Expert):
    """Grasps the can from above at any angle, carries it in an arc and drops it."""

    def attempt(self, simulator: Any, hand: Hand) -> Script:
        """Yield the actions of one attempt."""
        generator = self.generator
        yaw = choose_yaw(hand, generator.uniform(-np.pi, np.pi), np.pi, generator, reach=1.2)
        offset = generator.normal(0.0, [0.005, 0.005, 0.006])
        offset[2] = np.clip(offset[2] + 0.01, -0.01, 0.03)

        def grasp() -> Pose:
            return Pose(body_pose(simulator, "Can_main").position + offset, downward(yaw))

        above = self.style.haste * generator.uniform(0.08, 0.14)
        yield from pick(hand, grasp, above=above, generator=generator)
        lost = slipping(simulator, hand, "Can_main")
        place = self._place(simulator)
        turned = downward(yaw + generator.normal(0.0, 0.15))
        floor = simulator.bin2_pos[2]
        over = floor + offset[2] + 0.19 + self.style.haste * generator.uniform(0.02, 0.08)
        here = hand.pose
        x, y = here.position[:2] + generator.normal(0.0, 0.015, size=2)
        lifted = Pose(np.array([x, y, over]), here.rotation)
        yield from hand.go(lifted, within=0.03, turned=0.5, unless=lost)
        arrived = Pose(np.array([*place, over]), turned)
        yield from hand.go(arrived, within=0.03, turned=0.4, unless=lost)
        low = floor + offset[2] + generator.uniform(0.06, 0.12)
        release = Pose(np.array([*place, low]), turned)
        yield from hand.go(release, within=0.03, turned=0.5, limit=40, unless=lost)
        yield from hand.open()
        return (yield from hand.go(hand.pose.moved(z=0.1), within=0.03, turned=0.5, limit=30))

    def _place(self, simulator: Any) -> NDArray[np.float64]:
        """Return where to drop the can, (2,): in the part of its compartment that is in reach."""
        corner = np.asarray(simulator.bin2_pos[:2])
        size = np.asarray(simulator.bin_size[:2]) / 2
        return np.asarray(corner + self.generator.uniform([0.2, 0.2], [0.45, 0.5]) * size)
