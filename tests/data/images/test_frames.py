"""Batches of frames out of mapped files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.images import frames as frames_module
from lfm_policy.data.images.cache import CachedImages
from lfm_policy.data.images.frames import Frames
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.windows import WindowIndex

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 4, 3, 3), dtype=np.uint8)


@given(steps=st.lists(st.lists(st.integers(0, 8), min_size=2, max_size=2), max_size=6))
def test_gathers_what_indexing_gives(steps: list[list[int]]) -> None:
    wanted = torch.tensor(steps, dtype=torch.int64).reshape(-1, 2)
    gathered = Frames(IMAGES).gather(wanted)
    assert gathered.dtype == torch.uint8
    np.testing.assert_array_equal(gathered, IMAGES[wanted.numpy()])


def test_prefetched_batches_are_the_same_in_any_order() -> None:
    frames = Frames(IMAGES)
    batches = [torch.tensor([[i, i + 1]]) for i in range(6)]
    for batch in batches:  # more than are kept
        frames.prefetch(batch)
    for batch in reversed(batches):
        np.testing.assert_array_equal(frames.gather(batch), IMAGES[batch.numpy()])


def test_a_batch_is_gathered_in_advance_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Frames(IMAGES)
    copied: list[int] = []
    copy = frames._copy
    monkeypatch.setattr(frames, "_copy", lambda steps: copied.append(len(steps)) or copy(steps))
    steps = torch.tensor([[1, 2], [3, 4]])
    frames.prefetch(steps)
    frames.prefetch(steps)
    frames.gather(steps)
    assert copied == [2]
    frames.gather(steps)
    assert copied == [2, 2]


def test_mapped_pages_are_given_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mapped = CachedImages("a store", {}, 9, (4, 3, 3), iter([IMAGES])).open(tmp_path)
    released = []
    monkeypatch.setattr(frames_module, "RELEASE_BYTES", 3 * IMAGES[0].nbytes)
    monkeypatch.setattr(frames_module, "release", lambda images: released.append(images is mapped))
    frames = Frames(mapped)
    for _ in range(4):
        frames.gather(torch.tensor([[0, 1]]))
    assert released == [True, True]


def test_frames_that_features_stand_in_for_take_no_memory_of_a_gpu() -> None:
    frames = Frames(IMAGES)
    frames._on_device = torch.from_numpy(IMAGES)  # as on a GPU
    assert frames.on_gpu and not frames.unloaded().on_gpu
    ends, action = np.array([9]), np.arange(18, dtype=np.float32).reshape(9, 2)
    index = WindowIndex(ends, n_obs_steps=1, horizon=2, n_action_steps=1)
    buffer = ReplayBuffer({"action": action, "camera": IMAGES}, ends)
    dataset = WindowDataset(buffer, Normalizer.fit({"action": action}), index, ["camera"])
    dataset._frames["camera"] = frames
    other = dataset.with_features({"camera": torch.zeros(1, 9, 4)})
    assert not other._frames["camera"].on_gpu and dataset._frames["camera"] is frames
    gathered = other._frames["camera"].gather(torch.tensor([[0, 8]]))
    np.testing.assert_array_equal(gathered, IMAGES[[0, 8]][None])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_frames_move_to_a_gpu_with_room() -> None:
    frames = Frames(IMAGES).to(torch.device("cuda"))
    gathered = frames.gather(torch.tensor([[0, 8]]))
    assert gathered.device.type == "cuda"
    np.testing.assert_array_equal(gathered.cpu(), IMAGES[[0, 8]][None])
