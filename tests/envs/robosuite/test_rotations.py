"""Rotations of six numbers: round trips over all rotations, the order of the numbers, nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lfm_envs.robosuite.rotations import (
    matrix_to_rot6d,
    rot6d_to_matrix,
    rot6d_to_rotvec,
    rotvec_to_rot6d,
)
from scipy.spatial.transform import Rotation

AXES = [
    *np.eye(3),
    *-np.eye(3),
    *(np.array(v) / np.linalg.norm(v) for v in ([1, 1, 0], [1, -2, 3])),
]

_unit_quats = (
    arrays(np.float64, 4, elements=st.floats(-1, 1))
    .filter(lambda q: np.linalg.norm(q) > 1e-3)
    .map(lambda q: q / np.linalg.norm(q))
)
_half_turns = st.sampled_from(AXES).map(lambda axis: Rotation.from_rotvec(np.pi * axis).as_quat())
_small = st.tuples(st.sampled_from(AXES), st.floats(-1e-7, 1e-7)).map(
    lambda pair: Rotation.from_rotvec(pair[0] * pair[1]).as_quat()
)
_almost_half = st.tuples(st.sampled_from(AXES), st.floats(-1e-7, 1e-7)).map(
    lambda pair: Rotation.from_rotvec(pair[0] * (np.pi + pair[1])).as_quat()
)
_identity = st.just(np.array([0.0, 0, 0, 1]))
rotations = st.one_of(_unit_quats, _half_turns, _small, _almost_half, _identity)


def rot6d_of(quat: np.ndarray) -> np.ndarray:
    return matrix_to_rot6d(Rotation.from_quat(quat).as_matrix())


def angle_between(one: Rotation, other: Rotation) -> float:
    return float((one * other.inv()).magnitude())


@given(rotations)
def test_round_trips(quat: np.ndarray) -> None:
    rotation = Rotation.from_quat(quat)
    rot6d = rot6d_of(quat)
    np.testing.assert_allclose(rot6d_to_matrix(rot6d), rotation.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(matrix_to_rot6d(rot6d_to_matrix(rot6d)), rot6d, atol=1e-12)
    rotvec = rot6d_to_rotvec(rot6d)
    assert np.linalg.norm(rotvec) <= np.pi + 1e-12
    assert angle_between(Rotation.from_rotvec(rotvec), rotation) < 1e-7
    np.testing.assert_allclose(rotvec_to_rot6d(rotvec), rot6d, atol=1e-7)


@given(rotations, arrays(np.float64, 6, elements=st.floats(-0.2, 0.2)))
def test_whatever_a_network_says_becomes_a_rotation(quat: np.ndarray, noise: np.ndarray) -> None:
    matrix = rot6d_to_matrix(2.5 * rot6d_of(quat) + noise)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_the_numbers_are_two_rows() -> None:
    matrix = Rotation.from_rotvec([0, 0, np.pi / 2]).as_matrix()
    np.testing.assert_allclose(matrix_to_rot6d(matrix), [0, -1, 0, 1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(rot6d_of(np.array([0, 0, 0, 1])), [1, 0, 0, 0, 1, 0])


def test_leading_dimensions_stay() -> None:
    rotvecs = Rotation.random(12, rng=0).as_rotvec().reshape(3, 4, 3)
    rot6d = rotvec_to_rot6d(rotvecs)
    assert rot6d.shape == (3, 4, 6)
    assert rot6d_to_matrix(rot6d).shape == (3, 4, 3, 3)
    assert rot6d_to_rotvec(rot6d).shape == (3, 4, 3)
    np.testing.assert_allclose(rot6d[1, 2], rotvec_to_rot6d(rotvecs[1, 2]))
    assert rot6d_to_rotvec(rot6d.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize(
    "rot6d", [np.zeros(6), [1, 0, 0, 1, 0, 0], [1, 0, 0, -2, 0, 0], [np.nan, 0, 0, 0, 1, 0]]
)
def test_what_is_no_rotation(rot6d: list[float]) -> None:
    with pytest.raises(ValueError, match="no rotation"):
        rot6d_to_matrix(np.array(rot6d, dtype=float))


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"shape \(5,\); expected \(\.\.\., 6,\)"):
        rot6d_to_matrix(np.zeros(5))
    with pytest.raises(ValueError, match="axis-angle vectors have shape"):
        rotvec_to_rot6d(np.zeros((2, 4)))
