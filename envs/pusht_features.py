"""Observation features of PushT, derived in one place for datasets and for the environment.

A PushT state is ``(agent_x, agent_y, block_x, block_y, block_angle)``: pixels of the 512 x 512
board (x to the right, y down) and radians. The block is a T whose body origin, the middle of the
outer edge of its bar, is ``(block_x, block_y)``. In the block's own frame, before the rotation by
``block_angle``, its eight corners are::

    0 (-60, 0) ────────────────────── 1 (60, 0)
    │                                         │
    3 (-60, 30) ── 4 (-15,30) ─ 5 (15,30) ─ 2 (60, 30)
                   │            │
                   │            │
                   7 (-15,120) ─ 6 (15,120)

These are the vertices of the two rectangles that ``gym_pusht`` builds its T from, in the order of
its ``get_keypoints``, so ``keypoints`` equals the ``environment_state`` of ``gym_pusht``.

The demonstrations of Diffusion Policy hold another set, ``data/keypoint``: nine other points of the
same T. They move rigidly with the block (to 0.1 pixels in all but some 60 of 25,650 frames) and lie
inside it or within 3 pixels of its outline; three of them (numbers 1, 2 and 4) are the corners 0, 1
and 7 to within 3 pixels. They follow from the same pose, so they carry nothing that the corners
here do not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

STATE_DIM: Final = 5
"""Length of a PushT state: agent x, agent y, block x, block y, block angle."""

BLOCK_CORNERS: Final[NDArray[np.float64]] = np.array(
    [(-60, 0), (60, 0), (60, 30), (-60, 30), (-15, 30), (15, 30), (15, 120), (-15, 120)],
    dtype=np.float64,
)
"""Corners of the T in the block's frame, shape (8, 2), pixels; read-only."""
BLOCK_CORNERS.setflags(write=False)

FEATURE_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "agent_pos": (2,),
    "block_pose": (4,),
    "keypoints": (2 * len(BLOCK_CORNERS),),
}
"""Name and shape of every feature, in the order in which they are returned."""


def state_features(state: ArrayLike) -> dict[str, NDArray[np.float32]]:
    """Derive the named observation features from PushT states.

    The state is rounded to float32 first, the precision of the recorded demonstrations, so a
    simulated and a recorded state that agree in float32 give the same numbers.

    Args:
        state: shape (..., 5), agent x, agent y, block x, block y in pixels, block angle in
            radians (any turn).

    Returns:
        float32 arrays: ``agent_pos`` (..., 2) in pixels; ``block_pose`` (..., 4), that is x, y in
        pixels, cos and sin of the angle; ``keypoints`` (..., 16), the eight corners of the T as
        x0, y0, x1, y1, ... in pixels.

    Raises:
        ValueError: the last axis of ``state`` does not have length 5.
    """
    rounded = np.asarray(state, dtype=np.float32)
    if rounded.ndim == 0 or rounded.shape[-1] != STATE_DIM:
        raise ValueError(
            f"a PushT state has shape (..., {STATE_DIM}) "
            "(agent x, agent y, block x, block y, block angle), "
            f"but an array of shape {rounded.shape} was given"
        )
    exact = rounded.astype(np.float64)
    x, y, angle = exact[..., 2], exact[..., 3], exact[..., 4]
    cos, sin = np.cos(angle), np.sin(angle)

    corners = np.empty((*angle.shape, len(BLOCK_CORNERS), 2), dtype=np.float32)
    local_x, local_y = BLOCK_CORNERS[:, 0], BLOCK_CORNERS[:, 1]
    # Written out, not as a matrix product: the result must not depend on the size of the batch.
    corners[..., 0] = x[..., None] + cos[..., None] * local_x - sin[..., None] * local_y
    corners[..., 1] = y[..., None] + sin[..., None] * local_x + cos[..., None] * local_y
    return {
        "agent_pos": rounded[..., :2].copy(),
        "block_pose": np.stack([x, y, cos, sin], axis=-1).astype(np.float32),
        "keypoints": corners.reshape(*angle.shape, 2 * len(BLOCK_CORNERS)),
    }
