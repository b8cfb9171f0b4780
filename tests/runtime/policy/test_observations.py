"""The last frames of observation."""

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lfm_runtime.policy.observations import remember, stacked


@given(st.integers(1, 5), st.lists(st.integers(), min_size=1, max_size=12))
def test_history_is_the_window_padded_with_the_first_frame(n_obs_steps, frames):
    history = deque(maxlen=n_obs_steps)
    for k, frame in enumerate(frames):
        remember(history, frame)
        padded = [frames[0]] * (n_obs_steps - 1) + frames[: k + 1]
        assert list(history) == padded[-n_obs_steps:]


def test_after_clearing_the_first_frame_fills_the_history():
    history = deque("bc", maxlen=2)
    history.clear()
    remember(history, "d")
    assert list(history) == ["d", "d"]


def test_frames_are_stacked_by_name_oldest_first():
    frames = [{"state": np.array([k, k + 1.0]), "gripper": np.array(k)} for k in range(3)]
    result = stacked(frames)
    assert result.keys() == {"state", "gripper"}
    np.testing.assert_array_equal(result["state"], [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(result["gripper"], [0, 1, 2])
