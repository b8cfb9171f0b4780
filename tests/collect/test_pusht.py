from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gym_pusht")
from lfm_policy.assets import bundled_policy
from lfm_policy.collect import EXPERTS, CollectOptions
from lfm_policy.collect.demonstrator import make_demonstrator
from lfm_policy.collect.episode import record_episode, replays
from lfm_policy.policy import read_header

pytestmark = pytest.mark.simulator


def test_images_come_with_the_features_of_the_state() -> None:
    demonstrator = make_demonstrator(CollectOptions("PushT", images=True, image_size=96))
    try:
        obs = demonstrator.start(300_000, np.random.default_rng(0))
        assert obs["image"].shape == (96, 96, 3)
        assert obs["keypoints"].shape == (16,)
        assert demonstrator.env_args["env_name"] == "lfm/PushTImage-v0"
    finally:
        demonstrator.close()


def test_a_demo_of_the_policy_replays() -> None:
    options = CollectOptions("PushT")
    demonstrator = make_demonstrator(options)
    try:
        demos = (record_episode(demonstrator, options, seed) for seed in range(300_000, 300_010))
        demo = next(demo for demo in demos if demo is not None)
        assert demo.actions.shape[1] == 2
        assert demo.states is not None and demo.states.shape[1] == 5
        assert demo.rewards[-1] == 1.0
        assert replays(demonstrator, demo)
    finally:
        demonstrator.close()


def test_another_policy_is_another_demonstrator() -> None:
    """If this fails because the bundled teacher is new, raise the version of PushT as well."""
    teacher = read_header(bundled_policy("pusht-state-teacher"))
    assert (EXPERTS.get("PushT").version, teacher.sha256[:12]) == (5, "78e70d575832")
