"""Validation, selection and identity of a replay buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.errors import InputError


def make_buffer(**changes: Any) -> ReplayBuffer:
    """Two episodes of 3 and 4 steps."""
    arrays = {
        "action": np.arange(14, dtype=np.float32).reshape(7, 2),
        "state": np.arange(21, dtype=np.float32).reshape(7, 3),
    }
    arrays.update(changes.pop("arrays", {}))
    ends = changes.pop("episode_ends", np.array([3, 7]))
    return ReplayBuffer(arrays=arrays, episode_ends=ends, source="demo.zarr")


def test_episode_geometry() -> None:
    buffer = make_buffer()
    buffer.validate()
    assert (buffer.n_steps, buffer.n_episodes) == (7, 2)
    assert buffer.episode_starts.tolist() == [0, 3]
    assert buffer.episode_lengths.tolist() == [3, 4]
    assert buffer.steps_of(np.array([1, 0])).tolist() == [3, 4, 5, 6, 0, 1, 2]
    assert buffer.steps_of(np.array([], dtype=np.int64)).tolist() == []


def test_select_episodes_copies_only_these() -> None:
    buffer = make_buffer()
    chosen = buffer.select_episodes([1])
    chosen.validate()
    assert chosen.episode_ends.tolist() == [4]
    assert chosen.episode_ends.dtype == np.int64
    np.testing.assert_array_equal(chosen.arrays["action"], buffer.arrays["action"][3:])
    chosen.arrays["action"][:] = 0
    assert buffer.arrays["action"].any()


def test_select_episodes_refuses_what_does_not_exist() -> None:
    with pytest.raises(InputError, match=r"demo.zarr: episodes 0 to 2 .* only episodes 0 to 1"):
        make_buffer().select_episodes([0, 2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_names_episode_and_step(value: float) -> None:
    state = np.zeros((7, 3), np.float32)
    state[4, 1] = state[6, 0] = value
    with pytest.raises(InputError) as caught:
        make_buffer(arrays={"state": state}).validate()
    message = str(caught.value)
    assert f"demo.zarr: state holds {value} in episode 1, step 1 (row 4" in message
    assert "2 such rows" in message


def test_float64_beyond_float32_is_refused() -> None:
    state = np.zeros((7, 1))
    state[0] = 1e300
    with pytest.raises(InputError, match=r"state holds 1e\+300 in episode 0, step 0"):
        make_buffer(arrays={"state": state}).validate()


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([], "episode_ends is empty: the dataset holds no episode"),
        ([0, 7], "episode 0 is empty"),
        ([3, 3, 7], r"episode 1 is empty \(its end 3 equals its start\)"),
        ([5, 3, 7], "not increasing: episode 1 ends at 3, before its start 5"),
        ([-2, 7], "not increasing: episode 0 ends at -2, before its start 0"),
        ([3, 8], "action has 7 steps, but the last of episode_ends is 8"),
        ([3, 6], "action has 7 steps, but the last of episode_ends is 6"),
    ],
)
def test_bad_episode_ends(ends: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_buffer(episode_ends=np.array(ends, dtype=np.int64)).validate()


@pytest.mark.parametrize("ends", [np.array([[3, 7]]), np.array([3.0, 7.0])])
def test_episode_ends_of_wrong_type(ends: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected rank 1 and int64"):
        make_buffer(episode_ends=ends).validate()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(7, np.float32), r"state has rank 1.*store a scalar per step as \(steps, 1\)"),
        (np.zeros((7, 0), np.float32), r"state has shape \(7, 0\): it holds no values"),
        (np.full((7, 1), "a"), "state has dtype <U1; expected numbers"),
        (np.full((7, 1), None), "state has dtype object; expected numbers"),
        (np.zeros((7, 1), complex), "state has dtype complex128; expected numbers"),
        (np.zeros((6, 1)), "state has 6 steps, but the last of episode_ends is 7"),
    ],
)
def test_bad_arrays(array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_buffer(arrays={"state": array}).validate()


def test_shapes_per_step_are_those_of_another_owner() -> None:
    buffer = make_buffer(arrays={"state": np.zeros((7, 3)), "action": np.zeros((7, 2))})
    buffer.check_shapes({"state": (3,), "action": [2]}, "the policy")
    with pytest.raises(InputError, match=r"state has shape \(3,\) per step, expected \(4,\), as "):
        buffer.check_shapes({"state": (4,)}, "the policy")
    with pytest.raises(InputError, match=r"has no pose, expected \(4,\), as the policy has it"):
        buffer.check_shapes({"action": (2,), "pose": (4,)}, "the policy")


def test_an_action_has_rank_two() -> None:
    with pytest.raises(InputError, match=r"action has rank 3.*\(steps, action_dim\)"):
        make_buffer(arrays={"action": np.zeros((7, 2, 2))}).validate()


def test_no_arrays() -> None:
    with pytest.raises(InputError, match="nothing to learn"):
        ReplayBuffer(arrays={}, episode_ends=np.array([1])).validate()


def test_fingerprint_is_of_the_data_alone() -> None:
    buffer = make_buffer()
    same = ReplayBuffer(
        arrays={key: buffer.arrays[key].astype(">f8") for key in ("state", "action")},
        episode_ends=np.array([3, 7], dtype=np.int32),
        source="elsewhere",
    )
    assert same.fingerprint() == buffer.fingerprint()
    other_value = make_buffer(arrays={"state": buffer.arrays["state"] + 1})
    other_shape = make_buffer(arrays={"state": buffer.arrays["state"].reshape(7, 1, 3)})
    other_ends = make_buffer(episode_ends=np.array([4, 7]))
    other_name = ReplayBuffer(
        arrays={"action": buffer.arrays["action"], "pose": buffer.arrays["state"]},
        episode_ends=buffer.episode_ends,
    )
    prints = {b.fingerprint() for b in (buffer, other_value, other_shape, other_ends, other_name)}
    assert len(prints) == 5
