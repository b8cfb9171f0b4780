"""The pass over the frames of a camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection import cameras as module
from lfm_policy.inspection.cameras import SHOWN_FRAMES, look_at_camera


@pytest.mark.parametrize("part_bytes", [1, 24 * 32 * 3 * 7, 10**9])
def test_parts_make_no_difference(
    good: ReplayBuffer, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr(module, "_PART_BYTES", part_bytes)
    frames = good.arrays["image"]
    frames[[5, 6, 7, 21, 70]] = frames[[4, 4, 4, 20, 69]]
    frames[40] = frames[39]  # the first frame of an episode repeats nothing
    frames[80] = 10
    frames[81] = 0
    frames[81, 3, 3, 1] = 11
    facts = look_at_camera("image", frames, good, episodes_shown=[])
    assert np.flatnonzero(facts.repeated).tolist() == [5, 6, 7, 21, 70]
    assert np.flatnonzero(facts.black).tolist() == [80]
    grey = frames @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose([facts.grey_mean, facts.grey_std], [grey.mean(), grey.std()], 1e-5)
    assert facts.frame_shape == (24, 32, 3)
    assert (facts.n_episodes, facts.n_frames) == (8, good.n_steps)
    assert facts.to_dict()["frames_read"] == good.n_steps


def test_tolerance(good: ReplayBuffer) -> None:
    frames = good.arrays["image"]
    frames[5] = frames[4]
    frames[5, 0, 0] = frames[4, 0, 0] - 8
    frames[6] = frames[5]
    frames[6, 0, 0] += 9
    for tolerance, expected in [(0, []), (7, []), (8, [5]), (9, [5, 6])]:
        facts = look_at_camera("image", frames, good, episodes_shown=[], tolerance=tolerance)
        assert np.flatnonzero(facts.repeated).tolist() == expected


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_frames_to_show(good: ReplayBuffer, channels: int) -> None:
    frames = np.random.default_rng(0).integers(
        0, 256, (good.n_steps, 6, 8, channels), dtype=np.uint8
    )
    facts = look_at_camera("image", frames, good, episodes_shown=[0, 7])
    assert list(facts.shown) == [0, 7]
    shown = facts.shown[7]
    assert shown.shape == (SHOWN_FRAMES, 6, 8, min(channels, 3)) and shown.dtype == np.uint8
    start, end = good.episode_starts[7], good.episode_ends[7]
    np.testing.assert_array_equal(shown[0], frames[start, ..., :3])
    np.testing.assert_array_equal(shown[-1], frames[end - 1, ..., :3])


def test_large_frames_are_shown_smaller() -> None:
    frames = np.zeros((2, 200, 401, 1), np.uint8)
    frames[:, ::2] = 100
    buffer = ReplayBuffer({"action": np.zeros((2, 1))}, np.array([2]))
    shown = look_at_camera("image", frames, buffer, episodes_shown=[0]).shown[0]
    assert shown.shape == (SHOWN_FRAMES, 66, 133, 1)
    assert set(np.unique(shown)) == {33, 67}  # means of 3 rows, 1 or 2 of them bright


def test_the_first_episodes_alone(good: ReplayBuffer, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", good.arrays["image"][:92])
    frames = np.load(tmp_path / "frames.npy", mmap_mode="r")
    facts = look_at_camera("image", frames, good, episodes_shown=[1, 2])
    assert (facts.n_episodes, facts.n_frames) == (2, 92)
    assert list(facts.shown) == [1]
