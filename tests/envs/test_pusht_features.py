"""The features of PushT against the simulator's geometry and against recorded keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from lfm_envs.pusht_features import BLOCK_CORNERS, FEATURE_SHAPES, state_features

pytestmark = pytest.mark.simulator

POSITION = st.floats(0, 512, width=32)
STATES = st.lists(
    st.tuples(POSITION, POSITION, POSITION, POSITION, st.floats(-10, 10, width=32)),
    min_size=1,
    max_size=5,
).map(lambda rows: np.array(rows, dtype=np.float32))


def to_block_frame(points: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Undo the pose of the block: points (M, K, 2), state (M, 5) -> (M, K, 2)."""
    moved = points - state[:, None, 2:4]
    cos, sin = np.cos(state[:, 4, None]), np.sin(state[:, 4, None])
    x = cos * moved[..., 0] + sin * moved[..., 1]
    y = -sin * moved[..., 0] + cos * moved[..., 1]
    return np.stack([x, y], axis=-1)


def test_hand_computed_state() -> None:
    features = state_features([1.0, 2.0, 100.0, 200.0, np.pi / 2])
    np.testing.assert_array_equal(features["agent_pos"], [1, 2])
    np.testing.assert_allclose(features["block_pose"], [100, 200, 0, 1], atol=1e-6)
    # A quarter turn sends (x, y) of the block's frame to (-y, x).
    corners = features["keypoints"].reshape(8, 2)
    np.testing.assert_allclose(corners[0], [100, 140], atol=1e-4)
    np.testing.assert_allclose(corners[6], [100 - 120, 200 + 15], atol=1e-4)


@given(STATES)
def test_shapes_types_and_independence_of_the_batch(states: np.ndarray) -> None:
    batch = state_features(states)
    history = state_features(states[None].repeat(2, axis=0))
    assert list(batch) == list(FEATURE_SHAPES)
    for key, shape in FEATURE_SHAPES.items():
        assert batch[key].dtype == np.float32
        assert batch[key].shape == (len(states), *shape)
        assert history[key].shape == (2, len(states), *shape)
        for i, state in enumerate(states):
            single = state_features(state)[key]
            np.testing.assert_allclose(single, batch[key][i], rtol=2e-7, atol=1e-9)


@given(STATES)
def test_the_block_is_rigid(states: np.ndarray) -> None:
    corners = state_features(states)["keypoints"].reshape(-1, 8, 2)
    local = to_block_frame(corners.astype(np.float64), states.astype(np.float64))
    np.testing.assert_allclose(local, np.broadcast_to(BLOCK_CORNERS, local.shape), atol=2e-4)


@given(STATES)
def test_float64_states_give_the_features_of_their_float32_rounding(states: np.ndarray) -> None:
    simulated = states.astype(np.float64) * (1 + 1e-9)
    for key, value in state_features(simulated).items():
        np.testing.assert_array_equal(
            value, state_features(simulated.astype(np.float32))[key], err_msg=key
        )


def test_features_do_not_share_memory_with_the_state() -> None:
    state = np.zeros((3, 5), dtype=np.float32)
    state_features(state)["agent_pos"][:] = 7
    assert not state.any()


@pytest.mark.parametrize("shape", [(), (4,), (5, 4), (0,)])
def test_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 5\).*shape \(" + str(shape)[1:-1]):
        state_features(np.zeros(shape))


@pytest.mark.parametrize("seed", range(5))
def test_corners_are_those_of_the_simulated_block(seed: int) -> None:
    simulator = pytest.importorskip("gym_pusht.envs.pusht").PushTEnv(obs_type="state")
    state, _ = simulator.reset(seed=seed)
    expected = simulator.get_keypoints(simulator._block_shapes).ravel()
    np.testing.assert_allclose(state_features(state)["keypoints"], expected, atol=1e-4)


def test_recorded_keypoints_are_rigid_points_of_the_same_block(pusht_zarr: Path) -> None:
    """The documented relation between our corners and ``data/keypoint`` of the demonstrations."""
    geometry = pytest.importorskip("shapely.geometry")
    data = zarr.open_group(str(pusht_zarr), mode="r")["data"]
    state = np.asarray(data["state"][::10], dtype=np.float64)
    local = to_block_frame(np.asarray(data["keypoint"][::10], dtype=np.float64), state)

    points = np.median(local, axis=0)
    off = np.abs(local - points).max(axis=(1, 2))
    assert np.quantile(off, 0.99) < 0.1  # rigid, but for some 60 of 25,650 frames
    assert off.max() < 3.0

    outline = geometry.Polygon(BLOCK_CORNERS[[0, 1, 2, 5, 6, 7, 4, 3]])
    assert outline.area == pytest.approx(120 * 30 + 30 * 90)
    assert max(outline.distance(geometry.Point(p)) for p in points) < 3.0
    for recorded, corner in ((1, 0), (2, 1), (4, 7)):
        assert np.linalg.norm(points[recorded] - BLOCK_CORNERS[corner]) < 3.0
