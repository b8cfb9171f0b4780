"""Blocks with an encoder each: frames are encoded once, also step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lfm_policy.policy import Policy


def test_one_robot_and_a_batch_get_the_same_actions(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(
        obs_shapes={"image": (16, 18, 3), "pose": (4,)},
        encoder={"name": "cameras", "image": {"name": "compact", "width": 4, "keypoints": 2}},
        training={"encoder": "own"},
    )
    frames = [policy.fake_obs(step) for step in range(4)]
    policy.sample_seed(3)
    actions = [policy.select_action(frame) for frame in frames]
    policy.sample_seed(3)
    for history, executed in (([0, 0], actions[:3]), ([2, 3], actions[3:])):
        batch = {key: np.stack([frames[i][key] for i in history])[None] for key in frames[0]}
        expected = policy.predict_action_chunk(batch)[0, : len(executed)]
        np.testing.assert_allclose(executed, expected, rtol=1e-4, atol=1e-3)
