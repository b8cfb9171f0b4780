"""Splitting by episode."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.data.split import split_episodes
from lfm_policy.errors import InputError


@settings(deadline=None)
@given(
    n_episodes=st.integers(1, 300),
    ratio=st.floats(0, 0.999),
    seed=st.integers(0, 2**31),
)
def test_partition(n_episodes: int, ratio: float, seed: int) -> None:
    train, validation = split_episodes(n_episodes, ratio, seed)
    assert sorted([*train, *validation]) == list(range(n_episodes))
    assert len(train) >= 1
    assert (len(validation) > 0) == (ratio > 0 and n_episodes > 1)
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    again = split_episodes(n_episodes, ratio, seed)
    np.testing.assert_array_equal(validation, again[1])


def test_is_the_choice_of_diffusion_policy() -> None:
    """Their ``get_val_mask``, written out, for PushT's 206 episodes."""
    expected = np.random.default_rng(seed=42).choice(206, size=round(206 * 0.02), replace=False)
    assert split_episodes(206, 0.02, 42)[1].tolist() == sorted(expected.tolist())


@settings(deadline=None)
@given(
    usable=st.lists(st.booleans(), min_size=1, max_size=80),
    ratio=st.floats(0, 0.999),
    seed=st.integers(0, 2**31),
)
def test_only_usable_episodes_are_chosen(usable: list[bool], ratio: float, seed: int) -> None:
    n_usable = sum(usable)
    if not n_usable:
        with pytest.raises(InputError, match="cannot split 0 episodes"):
            split_episodes(len(usable), ratio, seed, usable=np.array(usable))
        return
    train, validation = split_episodes(len(usable), ratio, seed, usable=np.array(usable))
    assert sorted([*train, *validation]) == np.flatnonzero(usable).tolist()
    assert len(train) >= 1
    # the choice that the usable ones alone would give
    alone = split_episodes(n_usable, ratio, seed)
    for found, ranks in zip((train, validation), alone, strict=True):
        np.testing.assert_array_equal(found, np.flatnonzero(usable)[ranks])


@pytest.mark.parametrize("all_usable", [None, True])
@pytest.mark.parametrize(
    ("n_episodes", "ratio", "seed", "first", "digest"),
    [
        (206, 0.02, 42, [18, 90, 134, 157], "300809a478961fa2"),
        (206, 0.1, 0, [3, 7, 14, 34], "8af27ec4618c88fe"),
        (200, 0.02, 42, [17, 87, 130, 153], "04e58ccdb80b7564"),
        (3000, 0.02, 42, [131, 189, 202, 253], "8f6fd02aff872e61"),
        (90, 0.3, 7, [0, 3, 9, 10], "4a51881b42b8c878"),
        (40, 0.02, 42, [3], "35be322d094f9d15"),
        (2, 0.02, 42, [0], "af5570f5a1810b7a"),
    ],
)
def test_split_of_published_trainings(
    n_episodes: int, ratio: float, seed: int, first: list[int], digest: str, all_usable: bool | None
) -> None:
    """Published results depend on these choices: they stay what they were."""
    usable = None if all_usable is None else np.ones(n_episodes, dtype=bool)
    train, validation = split_episodes(n_episodes, ratio, seed, usable=usable)
    assert validation[:4].tolist() == first
    assert hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest()[:16] == digest
    np.testing.assert_array_equal(train, np.setdiff1d(np.arange(n_episodes), validation))


@pytest.mark.parametrize(
    ("n_episodes", "ratio", "seed", "message"),
    [
        (0, 0.1, 0, "cannot split 0 episodes"),
        (5, 1.0, 0, "validation_ratio is 1.0; expected 0 <= validation_ratio < 1"),
        (5, -0.1, 0, "validation_ratio is -0.1"),
        (5, float("nan"), 0, "validation_ratio is nan"),
        (5, 0.1, -1, "split_seed is -1; expected at least 0"),
    ],
)
def test_bad_values(n_episodes: int, ratio: float, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_episodes(n_episodes, ratio, seed)
