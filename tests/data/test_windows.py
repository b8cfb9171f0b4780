"""Windows against a slow reference written from Diffusion Policy's description."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lfm_policy.data.windows import (
    WindowIndex,
    shortest_episode,
    warn_of_short_episodes,
    windows_of_lengths,
)
from lfm_policy.errors import InputError


def reference_windows(
    lengths: list[int], n_obs_steps: int, horizon: int, n_action_steps: int
) -> list[list[int]]:
    """Cut each window out of its episode and repeat the edge frames, one sample at a time."""
    windows = []
    start = 0
    for length in lengths:
        episode = list(range(start, start + length))
        first, last = -(n_obs_steps - 1), length - horizon + n_action_steps - 1
        for s in range(first, last + 1):
            inside = episode[max(s, 0) : s + horizon] if s + horizon > 0 else []
            before = [episode[0]] * min(max(-s, 0), horizon)
            after = [episode[-1]] * (horizon - len(before) - len(inside))
            windows.append(before + inside + after)
        start += length
    return windows


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=6),
    n_obs_steps=st.integers(1, 4),
    horizon=st.integers(1, 12),
    n_action_steps=st.integers(1, 12),
)
def test_equals_the_reference(
    lengths: list[int], n_obs_steps: int, horizon: int, n_action_steps: int
) -> None:
    assume(n_action_steps <= horizon - n_obs_steps + 1)
    expected = reference_windows(lengths, n_obs_steps, horizon, n_action_steps)
    counts = windows_of_lengths(np.array(lengths), n_obs_steps, horizon, n_action_steps)
    assert counts.sum() == len(expected)
    shortest = shortest_episode(n_obs_steps, horizon, n_action_steps)
    assert (counts > 0).tolist() == [length >= shortest for length in lengths]
    if not expected:
        with pytest.raises(InputError, match=f"a window needs {shortest}"):
            WindowIndex(np.cumsum(lengths), n_obs_steps, horizon, n_action_steps)
        return
    index = WindowIndex(np.cumsum(lengths), n_obs_steps, horizon, n_action_steps)
    assert index.indices.tolist() == expected
    assert index.obs_indices.tolist() == [window[:n_obs_steps] for window in expected]
    assert len(index) == len(expected)
    assert index.indices.dtype == torch.int64
    episode_of = np.repeat(np.arange(len(lengths)), lengths)
    assert all(len(set(episode_of[window])) == 1 for window in index.indices.numpy())


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=6),
    n_obs_steps=st.integers(1, 4),
    other=st.integers(1, 4),
    chosen=st.integers(1, 6),
)
def test_windows_of_another_history_are_of_the_same_moments(
    lengths: list[int], n_obs_steps: int, other: int, chosen: int
) -> None:
    """Every frame of every window is the episode's nearest one to its time."""
    horizon, ends = 6, np.cumsum(lengths)
    episodes = range(min(chosen, len(lengths)))
    assume(windows_of_lengths(np.array(lengths)[list(episodes)], n_obs_steps, horizon, 3).any())
    index = WindowIndex(ends, n_obs_steps, horizon, 3, episodes=episodes)
    moved = index.with_history(other, ends)
    assert moved.obs_indices.shape == (len(index), other)
    assert torch.equal(moved.obs_indices[:, -1], index.obs_indices[:, -1])
    for window, now in zip(moved.indices.tolist(), index.obs_indices[:, -1].tolist(), strict=True):
        episode = int(np.searchsorted(ends, now, side="right"))
        first, last = ends[episode] - lengths[episode], ends[episode] - 1
        times = range(now - other + 1, now - other + 1 + horizon)
        assert window == [min(max(time, first), last) for time in times]
    assert torch.equal(index.with_history(n_obs_steps, ends).indices, index.indices)


def test_edges_of_an_episode_repeat() -> None:
    index = WindowIndex(np.array([20, 25]), n_obs_steps=2, horizon=6, n_action_steps=4)
    assert index.indices[0].tolist() == [0, 0, 1, 2, 3, 4]
    # the last window of the first episode: it executes its indices 1..4, up to the last step
    assert index.indices[18].tolist() == [17, 18, 19, 19, 19, 19]
    assert index.indices[19].tolist() == [20, 20, 21, 22, 23, 24]
    # an episode of 5 steps has windows although the horizon is 6
    assert len(index) == 19 + 4


def test_a_subset_of_episodes_indexes_the_whole_arrays() -> None:
    ends = np.array([5, 12, 20])
    whole = WindowIndex(ends, 2, 4, 2)
    last = WindowIndex(ends, 2, 4, 2, episodes=[2])
    first_two = WindowIndex(ends, 2, 4, 2, episodes=np.array([0, 1]))
    joined = torch.cat([first_two.indices, last.indices])
    assert torch.equal(joined, whole.indices)
    assert last.indices.min() == 12 and last.indices.max() == 19


def test_to_moves_a_copy() -> None:
    index = WindowIndex(np.array([9]), 2, 4, 2)
    moved = index.to("meta")
    assert moved.indices.device.type == moved.obs_indices.device.type == "meta"
    assert index.indices.device.type == "cpu" and moved.horizon == 4


def test_episodes_shorter_than_the_horizon_repeat_their_edges() -> None:
    index = WindowIndex(np.array([8, 15]), 2, 16, 8)
    # of 8 steps, the fewest: one window, which executes all of them; of 7 steps: none
    assert index.indices.tolist() == [[0, 0, 1, 2, 3, 4, 5, 6, *[7] * 8]]
    assert index.obs_indices.tolist() == [[0, 0]]


def test_horizon_longer_than_every_episode() -> None:
    with pytest.raises(
        InputError,
        match=r"d.zarr: horizon 16 is longer than every episode \(the longest of 3 has 7 steps; "
        r"with n_obs_steps 2 and n_action_steps 8 a window needs 8\): use a shorter policy.horizon",
    ):
        WindowIndex(np.array([4, 11, 12]), 2, 16, 8, source="d.zarr")


@pytest.mark.parametrize(
    ("lengths", "n_windows", "digest"),
    [
        ((2, 16, 8), 30135, "33f82c480fc99c56"),
        ((1, 16, 16), 31577, "9a6189d789920d66"),
        ((2, 64, 32), 25191, "5fc6ca37e6df14b4"),
        ((3, 10, 1), 30135, "896835ea3e8859ac"),
    ],
)
def test_windows_of_published_trainings(
    lengths: tuple[int, int, int], n_windows: int, digest: str
) -> None:
    """206 episodes as long as PushT's give the windows that published results were trained on."""
    episodes = np.random.default_rng(206).integers(49, 247, 206)
    index = WindowIndex(np.cumsum(episodes), *lengths)
    found = hashlib.sha256(index.indices.numpy().astype("<i8").tobytes()).hexdigest()
    assert (len(index), found[:16]) == (n_windows, digest)


def test_short_episodes_are_counted() -> None:
    with pytest.warns(UserWarning, match=r"d.zarr: 2 of 3 episodes are left out: .* than the 8 st"):
        warn_of_short_episodes(np.array([7, 8, 1]), 2, 16, 8, source="d.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_short_episodes(np.array([8, 200]), 2, 16, 8, source="d.zarr")


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((0, 16, 8), "n_obs_steps is 0; expected at least 1"),
        ((2, 0, 8), "horizon is 0; expected at least 1"),
        ((2, 16, 0), "n_action_steps is 0; expected at least 1"),
        ((2, 16, 16), r"n_action_steps is 16, but .* horizon - n_obs_steps \+ 1 = 15"),
    ],
)
def test_lengths_that_do_not_fit(lengths: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WindowIndex(np.array([100]), *lengths)
