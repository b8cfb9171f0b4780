"""Which episodes train and which validate."""

from __future__ import annotations

import numpy as np

from lfm_policy.errors import InputError


def split_episodes(n_episodes: int, ratio: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split whole episodes at random into training and validation.

    The same choice as Diffusion Policy's for the same ratio and seed. A positive ratio gives at
    least one validation episode as soon as there are two; there is always at least one training
    episode.

    Args:
        n_episodes: number of episodes, at least 1.
        ratio: share of validation episodes, 0 <= ratio < 1.
        seed: of the choice, at least 0.

    Returns:
        Indices of training and validation episodes, each sorted, int64, disjoint, together all.

    Raises:
        InputError: a value is outside its range.
    """
    if n_episodes < 1:
        raise InputError(f"cannot split {n_episodes} episodes: at least 1 is needed")
    check_split(ratio, seed)
    is_validation = np.zeros(n_episodes, dtype=bool)
    if ratio > 0:
        n_validation = min(max(1, round(n_episodes * ratio)), n_episodes - 1)
        chosen = np.random.default_rng(seed).choice(n_episodes, size=n_validation, replace=False)
        is_validation[chosen] = True
    return np.flatnonzero(~is_validation), np.flatnonzero(is_validation)


def check_split(ratio: float, seed: int) -> None:
    """Check the two options of :func:`split_episodes`.

    Raises:
        InputError: ``ratio`` is not in [0, 1) or ``seed`` is negative.
    """
    if not 0 <= ratio < 1:  # also refuses NaN
        raise InputError(f"validation_ratio is {ratio}; expected 0 <= validation_ratio < 1")
    if seed < 0:
        raise InputError(f"split_seed is {seed}; expected at least 0")
