"""Splitting by episode."""

from __future__ import annotations

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
