"""Meta-World's experts: every time otherwise, and the file says what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfm_policy.collect import CollectOptions, collect
from lfm_policy.collect.demonstrator import make_demonstrator
from lfm_policy.collect.episode import record_episode
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.errors import InputError

pytest.importorskip("metaworld")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]


def test_an_expert_succeeds_and_no_two_episodes_are_alike() -> None:
    options = CollectOptions("drawer-close-v3")
    demonstrator = make_demonstrator(options)
    first, again, other = (record_episode(demonstrator, options, seed) for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    np.testing.assert_array_equal(first.actions, again.actions)
    assert first.actions.shape != other.actions.shape or np.any(first.actions != other.actions)
    assert np.abs(first.actions).max() <= 1
    assert first.attributes["task"] == "drawer-close-v3"
    demonstrator.close()


def test_noise_and_speed_are_options() -> None:
    lengths = []
    for slowest, speed in ((1.0, 0.0), (0.4, 0.0)):
        options = CollectOptions(
            "reach-v3", expert_options={"slowest": slowest, "noise": speed, "start": 0.0}
        )
        demonstrator = make_demonstrator(options)
        demos = [record_episode(demonstrator, options, seed) for seed in range(4)]
        lengths.append(sum(len(demo.actions) for demo in demos if demo is not None))
    assert lengths[1] > lengths[0]
    with pytest.raises(InputError, match="expert option noise is 2"):
        make_demonstrator(CollectOptions("reach-v3", expert_options={"noise": 2}))


def test_a_collected_file_trains_with_its_task(tmp_path: Path) -> None:
    path = tmp_path / "reach.hdf5"
    done = collect(path, CollectOptions("reach-v3", episodes=2))
    assert done.demos == 2
    config = RobomimicConfig(path=str(path), tasks=["*"])
    buffer = config.load()
    assert buffer.tasks == ("reach-v3",)
    assert set(buffer.arrays) == {"action", "hand", "objects", "goal", "task"}
    recorded = config.recorded_in()
    assert recorded is not None
    assert recorded.env_id == "lfm/MetaWorld-reach-v3"
