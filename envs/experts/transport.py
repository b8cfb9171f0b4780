"""Transport (TwoArmTransport): two arms bring a hammer from one bin to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from .expert import Expert
from .grasp import choose_yaw, downward, heading, pick, slipping
from .hand import CLOSED, Hand, Pose, Script, Vector, body_pose

_LID, _HAMMER, _TRASH = "transport_start_bin_lid_root", "payload_root", "trash_main"
_START, _TARGET, _TRASH_BIN = (
    f"transport_{name}_bin_root" for name in ("start", "target", "trash")
)

_HALF = np.array([0.0, 0.052, 0.0])
"""From the hand that gives to the middle between both; the arms do not reach much farther."""

_RIM = 0.075
"""Height of a bin's rim over its middle, in metres."""


class TransportExpert(Expert):
    """One arm opens the bin and hands the hammer over; the other clears the target bin first.

    Attributes:
        offered: whether the first arm holds the hammer where the second can take it.
        taken: whether the second arm holds it.
        free: whether the first arm has let go of it.
    """

    offered = taken = free = False

    def script(self, simulator: Any, *hands: Hand) -> Script:
        """Yield the actions of the episode, those of the first arm before those of the second."""
        giver, taker = hands
        # The place of the handover, for both.
        x, y = self.generator.uniform([-0.03, -0.01], [0.08, 0.02])
        place = np.array([x, y, self.generator.uniform(1.06, 1.13)])
        giving = self._give(simulator, giver, place)
        taking = self._take(simulator, taker, place)
        while True:
            yield np.concatenate([_next(giving, giver), _next(taking, taker)])

    def _give(self, simulator: Any, hand: Hand, place: Vector) -> Script:
        yield from self._open_bin(simulator, hand)
        while not self.free:
            yield from self._offer(simulator, hand, place)
            self.offered = False
        x, y = self.generator.normal(0.0, 0.02, size=2)
        away = hand.home.moved(x, y, 0.05)
        return (yield from hand.go(away, within=0.05, turned=0.5))

    def _open_bin(self, simulator: Any, hand: Hand) -> Script:
        generator = self.generator
        bin_pose = body_pose(simulator, _START)
        yaw = choose_yaw(hand, 0.0, np.pi, generator, reach=1.0) + generator.normal(0.0, 0.04)
        offset = np.array([0.0, generator.uniform(-0.02, 0.02), generator.uniform(0.0, 0.008)])

        def grasp() -> Pose:
            handle = np.asarray(simulator.transport.lid_handle_pos)
            return Pose(handle + offset, downward(yaw))

        aside = bin_pose.position + np.array([generator.uniform(-0.43, -0.38), 0.0, 0.0])
        aside[1] += generator.uniform(-0.03, 0.03)
        for _ in range(3):
            above = self.style.haste * generator.uniform(0.06, 0.1)
            yield from pick(hand, grasp, above=above, generator=generator)
            lost = _lost(simulator, hand, _LID)
            here = hand.pose
            high = here.moved(z=self.style.haste * generator.uniform(0.05, 0.08))
            yield from hand.go(high, within=0.02, turned=0.3, unless=lost)
            over = Pose(np.array([*aside[:2], high.position[2]]), here.rotation)
            yield from hand.go(over, within=0.03, turned=0.3, unless=lost)
            low = over.moved(z=0.835 - over.position[2])
            yield from hand.go(low, within=0.02, turned=0.3, limit=50, unless=lost)
            yield from hand.open(0.05)
            yield from hand.go(over, within=0.06, turned=0.5)
            lid = body_pose(simulator, _LID).position
            if np.abs(lid - bin_pose.position)[0] > 0.25:
                return True
        return False

    def _offer(self, simulator: Any, hand: Hand, place: Vector) -> Script:
        generator = self.generator
        grasp = self._end_of_hammer(simulator, hand, side=-1)
        above = 0.16 + self.style.haste * generator.uniform(0.0, 0.06)  # over the rim
        yield from pick(hand, grasp, above=above, generator=generator)
        lost = _lost(simulator, hand, _HAMMER)
        middle = body_pose(simulator, _START).position
        # Out of the middle of the bin, because walls would turn the hammer in the hand.
        for height, within in ((0.05, 0.03), (_RIM + 0.13, 0.04)):
            raised = _carrying(simulator, hand, middle + np.array([0.0, 0.02, height]))
            yield from hand.go(raised, within=within, turned=0.3, limit=40, unless=lost)

        def held() -> Pose:
            turn = _askew(simulator)
            return Pose(place - _HALF, downward(heading(hand.pose.rotation) + turn))

        yield from hand.go(held, within=0.012, turned=0.15, unless=lost)
        stand = hand.pose
        self.offered = not lost()
        while self.offered and not self.taken:
            if lost():
                return False
            yield hand.towards(stand, steady=0.8)
        if not self.taken:
            return False
        yield from hand.open()
        self.free = True
        return (yield from hand.go(hand.pose.moved(z=0.1), within=0.03, turned=0.4, limit=40))

    def _take(self, simulator: Any, hand: Hand, place: Vector) -> Script:
        generator = self.generator
        while not simulator.transport.trash_in_trash_bin:
            yield from self._clear(simulator, hand)
        yaw = choose_yaw(hand, 0.0, np.pi, generator, reach=1.0)
        ready = Pose(place + np.array([0.0, 0.2, 0.1]), downward(yaw))
        yield from hand.go(ready, within=0.04, turned=0.3)
        while True:
            while not self.offered and not self.free:
                yield hand.towards(ready, steady=0.5)
            yield from self._deliver(simulator, hand)
            while simulator._check_success():
                yield hand.still()

    def _clear(self, simulator: Any, hand: Hand) -> Script:
        generator = self.generator
        trash = body_pose(simulator, _TRASH)
        yaw = choose_yaw(hand, heading(trash.rotation), np.pi / 2, generator, reach=1.5)
        yaw += generator.normal(0.0, 0.06)
        offset = generator.normal(0.0, 0.003, size=3)

        def grasp() -> Pose:
            return Pose(body_pose(simulator, _TRASH).position + offset, downward(yaw))

        above = 0.16 + self.style.haste * generator.uniform(0.0, 0.06)  # over the rim
        yield from pick(hand, grasp, above=above, generator=generator)
        lost = _lost(simulator, hand, _TRASH)
        bin_pose = body_pose(simulator, _TRASH_BIN)
        over = bin_pose.position + np.array([*generator.uniform(-0.05, 0.05, size=2), _RIM + 0.1])
        raised = hand.pose.moved(z=over[2] - hand.pose.position[2])
        yield from hand.go(raised, within=0.03, turned=0.4, unless=lost)
        turned = downward(yaw + generator.normal(0.0, 0.2))
        yield from hand.go(Pose(over, turned), within=0.04, turned=0.5, unless=lost)
        low = over - np.array([0.0, 0.0, generator.uniform(0.04, 0.12)])
        yield from hand.go(Pose(low, turned), within=0.03, turned=0.5, limit=40, unless=lost)
        yield from hand.open()
        return (yield from hand.go(Pose(over, turned), within=0.05, turned=0.5))

    def _deliver(self, simulator: Any, hand: Hand) -> Script:
        generator = self.generator
        # A hand that leans back to its arm reaches farther.
        lean = -generator.uniform(0.25, 0.45)
        grasp = self._end_of_hammer(simulator, hand, side=1, lean=lean)
        above = generator.uniform(0.08, 0.12)
        yield from pick(hand, grasp, above=above, generator=generator)
        lost = _lost(simulator, hand, _HAMMER)
        self.taken = not lost()
        stand = hand.pose
        while self.offered and not self.free:
            yield hand.towards(stand, steady=0.8)
        goal = body_pose(simulator, _TARGET).position
        goal = goal + np.array([*generator.uniform(-0.02, 0.02, size=2), 0.0])

        def over(height: float) -> Callable[[], Pose]:
            place = goal + np.array([0.0, 0.0, height])
            return _carrying(simulator, hand, place, lean=lean)

        # First away from the other hand.
        away = hand.pose.moved(y=0.12, z=0.02)
        yield from hand.go(away, within=0.03, turned=0.4, unless=lost)
        yield from hand.go(over(_RIM + 0.09), within=0.03, turned=0.2, unless=lost)
        low = generator.uniform(-0.03, 0.04)
        yield from hand.go(over(low), within=0.03, turned=0.3, limit=50, unless=lost)
        yield from hand.open()
        self.taken = False
        return (yield from hand.go(hand.pose.moved(z=0.15), within=0.04, turned=0.5, limit=40))

    def _end_of_hammer(
        self, simulator: Any, hand: Hand, *, side: int, lean: float = 0.0
    ) -> Callable[[], Pose]:
        """Return a function for the grasp of the handle near its end on one side, -1 or 1, in y."""
        generator = self.generator
        head_side = np.sign(body_pose(simulator, _HAMMER).rotation.as_matrix()[1, 2])
        # The head is half of the weight: who is farther from it holds the handle near its middle.
        near_head = side == head_side
        if side < 0:
            distance = generator.uniform(*((0.05, 0.065) if near_head else (0.025, 0.04)))
        else:
            distance = generator.uniform(*((0.065, 0.08) if near_head else (0.05, 0.07)))
        depth = generator.uniform(-0.003, 0.006)
        wobble = generator.normal(0.0, 0.04)
        across = heading(body_pose(simulator, _HAMMER).rotation, axis=2) + np.pi / 2
        yaw = choose_yaw(hand, across, np.pi, generator, reach=1.2)

        def grasp() -> Pose:
            pose = body_pose(simulator, _HAMMER)
            along = pose.rotation.as_matrix()[:, 2]
            along = along * np.sign(along[1]) * side
            at = pose.position + distance * along + np.array([0.0, 0.0, depth])
            now = heading(pose.rotation, axis=2) + np.pi / 2
            turn = (now - yaw + np.pi / 2) % np.pi - np.pi / 2
            return Pose(at, _leaning(yaw + turn + wobble, lean))

        return grasp


def _next(script: Script, hand: Hand) -> Vector:
    action = next(script, None)
    return hand.still() if action is None else action


def _lost(simulator: Any, hand: Hand, body: str) -> Callable[[], bool]:
    """Return a function that says whether the hand no longer holds a body."""
    # The hammer may turn in the hand when the other one lets go.
    slipped = slipping(simulator, hand, body, slack=0.1 if body == _HAMMER else 0.05)
    return lambda: hand.gripper == CLOSED and slipped()


def _carrying(
    simulator: Any, hand: Hand, place: Vector, *, lean: float = 0.0
) -> Callable[[], Pose]:
    """Return a function for the pose of the hand that brings the hammer to a place.

    There its handle is parallel to y. It may hang askew: to level it would tilt the hand.
    """

    def pose() -> Pose:
        hammer, here = body_pose(simulator, _HAMMER), hand.pose
        turn = _askew(simulator)
        offset = Rotation.from_euler("z", turn).apply(hammer.position - here.position)
        return Pose(place - offset, _leaning(heading(here.rotation) + turn, lean))

    return pose


def _leaning(yaw: float, lean: float) -> Rotation:
    """Return a gripper's orientation: down, then turned around the world's x by an angle."""
    return Rotation.from_euler("x", lean) * downward(yaw)


def _askew(simulator: Any) -> float:
    """Return the angle by which the hammer has to turn for its handle to be parallel to y."""
    now = heading(body_pose(simulator, _HAMMER).rotation, axis=2)
    return float(np.sign(now) * np.pi / 2 - now)
