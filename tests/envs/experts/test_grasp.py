from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")
from lfm_envs.experts.grasp import attitude, bring, choose_yaw, downward, heading, smallest
from lfm_envs.experts.hand import Pose
from scipy.spatial.transform import Rotation


class _Hand:
    """A hand that is where it is put."""

    def __init__(self, pose: Pose) -> None:
        self.home = self.pose = pose


def _random_pose(generator: np.random.Generator) -> Pose:
    return Pose(generator.normal(size=3), Rotation.random(random_state=int(generator.integers(99))))


def _assert_close(a: Pose, b: Pose) -> None:
    np.testing.assert_allclose(a.position, b.position, atol=1e-12)
    assert (a.rotation * b.rotation.inv()).magnitude() < 1e-7


def test_a_pose_times_its_inverse_is_the_origin() -> None:
    pose = _random_pose(np.random.default_rng(0))
    _assert_close(pose * pose.inverse(), Pose(np.zeros(3), Rotation.identity()))


def test_poses_are_composed_from_left_to_right() -> None:
    a, b, c = (_random_pose(np.random.default_rng(seed)) for seed in range(3))
    _assert_close((a * b) * c, a * (b * c))


def test_moving_is_along_the_axes_of_the_world() -> None:
    pose = _random_pose(np.random.default_rng(1))
    np.testing.assert_allclose(pose.moved(y=0.5).position - pose.position, [0, 0.5, 0])


@pytest.mark.parametrize("angle", [-7.0, -1.0, 0.0, 0.3, 2.0, 9.0])
def test_the_smallest_angle_differs_by_a_multiple(angle: float) -> None:
    found = smallest(angle, np.pi / 2)
    assert -np.pi / 4 <= found <= np.pi / 4
    assert ((angle - found) / (np.pi / 2)) % 1 == pytest.approx(0, abs=1e-9) or (
        ((angle - found) / (np.pi / 2)) % 1 == pytest.approx(1, abs=1e-9)
    )


@pytest.mark.parametrize("yaw", [-2.0, 0.0, 1.0])
def test_downward_points_down_and_closes_as_told(yaw: float) -> None:
    rotation = downward(yaw)
    np.testing.assert_allclose(rotation.apply([0, 0, 1]), [0, 0, -1], atol=1e-12)
    assert heading(rotation) == pytest.approx(yaw)
    same = attitude(np.array([0, 0, -2.0]), np.array([np.cos(yaw), np.sin(yaw), 5.0]))
    assert (same * rotation.inv()).magnitude() < 1e-7


def test_a_yaw_is_chosen_among_the_symmetric_ones_in_reach() -> None:
    hand = _Hand(Pose(np.zeros(3), downward(0.4)))
    generator = np.random.default_rng(0)
    chosen = {
        round(choose_yaw(hand, 0.5, np.pi / 2, generator, reach=2.0), 6)  # type: ignore[arg-type]
        for _ in range(100)
    }
    assert chosen == {round(0.5 + turn * np.pi / 2, 6) for turn in (-1, 0, 1)}


def test_a_yaw_out_of_reach_is_the_nearest_one() -> None:
    hand = _Hand(Pose(np.zeros(3), downward(0.0)))
    generator = np.random.default_rng(0)
    yaw = choose_yaw(hand, 1.0, 2 * np.pi, generator, reach=0.5)  # type: ignore[arg-type]
    assert yaw == pytest.approx(1.0)


def test_what_is_held_arrives_at_the_goal() -> None:
    generator = np.random.default_rng(3)
    hand, in_hand, goal = _Hand(_random_pose(generator)), *(_random_pose(generator),) * 2
    target = bring(hand, lambda: hand.pose * in_hand, goal)()  # type: ignore[arg-type]
    _assert_close(target * in_hand, goal)
