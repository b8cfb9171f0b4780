"""Rotations as six numbers, as policies predict them, and as simulators take them.

The six numbers are the first two rows of the rotation matrix, one after the other: Diffusion
Policy's order (that of pytorch3d). They change without jumps where axis-angle vectors do
not, at half turns. The third row follows, and so does a proper rotation from any
two rows that are not parallel, such as a network's (Zhou et al., arXiv:1812.07035).

All functions take and return arrays with any leading dimensions and compute in float64.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

ROT6D = 6
"""Length of this representation."""

_SHORTEST = 1e-6


def matrix_to_rot6d(matrix: np.ndarray) -> np.ndarray:
    """Return the first two rows of rotation matrices, (..., 3, 3) -> (..., 6)."""
    matrix = _shaped(matrix, (3, 3), "rotation matrices")
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], ROT6D)


def rot6d_to_matrix(rot6d: np.ndarray) -> np.ndarray:
    """Return rotation matrices, (..., 6) -> (..., 3, 3), by Gram-Schmidt.

    Raises:
        ValueError: another shape, NaN, or rows that give no rotation: one is (almost) zero, or
            they are parallel.
    """
    rows = _shaped(rot6d, (ROT6D,), "rotations of six numbers").reshape(*np.shape(rot6d)[:-1], 2, 3)
    first = _unit(rows[..., 0, :])
    along = np.sum(first * rows[..., 1, :], axis=-1, keepdims=True)
    second = _unit(rows[..., 1, :] - along * first)
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def rotvec_to_rot6d(rotvec: np.ndarray) -> np.ndarray:
    """Convert axis-angle vectors in radians, (..., 3) -> (..., 6)."""
    rotvec = _shaped(rotvec, (3,), "axis-angle vectors")
    matrix = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix()
    return matrix_to_rot6d(matrix.reshape(*rotvec.shape[:-1], 3, 3))


def rot6d_to_rotvec(rot6d: np.ndarray) -> np.ndarray:
    """Convert to axis-angle vectors, (..., 6) -> (..., 3), of at most pi radians.

    Raises:
        ValueError: as `rot6d_to_matrix`.
    """
    matrix = rot6d_to_matrix(rot6d)
    return Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec().reshape(*matrix.shape[:-2], 3)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (norm > _SHORTEST).all():  # also NaN
        raise ValueError(
            "six numbers are no rotation: expected two rows of 3 that are neither zero, NaN nor "
            f"parallel, found a remainder of length {np.min(norm):g}"
        )
    return vectors / norm


def _shaped(values: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape[-len(shape) :] != shape:
        raise ValueError(f"{what} have shape {values.shape}; expected (..., {str(shape)[1:-1]})")
    return values
