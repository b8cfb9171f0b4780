"""Which episodes train and which validate."""

from __future__ import annotations

import numpy as np

from lfm_policy.errors import InputError


def split_episodes(
    n_episodes: int, ratio: float, seed: int, *, usable: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split whole episodes at random into training and validation.

    The same choice as Diffusion Policy's for the same ratio and seed, among the usable episodes. A
    positive ratio gives at least one validation episode as soon as there are two; there is always
    at least one training episode. So whether there is something to train on never depends on the
    seed or the ratio.

    Args:
        n_episodes: number of episodes, at least 1.
        ratio: share of validation episodes, 0 <= ratio < 1.
        seed: of the choice, at least 0.
        usable: (n_episodes,) bool, which of them may be chosen for either; all by default.

    Returns:
        Indices of training and validation episodes, each sorted, int64, disjoint, together all
        usable ones.

    Raises:
        InputError: a value is outside its range, or no episode is usable.
    """
    candidates = np.arange(n_episodes) if usable is None else np.flatnonzero(usable)
    if len(candidates) < 1:
        raise InputError(f"cannot split {len(candidates)} episodes: at least 1 is needed")
    if not 0 <= ratio < 1:  # also refuses NaN
        raise InputError(f"validation_ratio is {ratio}; expected 0 <= validation_ratio < 1")
    if seed < 0:
        raise InputError(f"split_seed is {seed}; expected at least 0")
    is_validation = np.zeros(len(candidates), dtype=bool)
    if ratio > 0:
        n_validation = min(max(1, round(len(candidates) * ratio)), len(candidates) - 1)
        chosen = np.random.default_rng(seed).choice(
            len(candidates), size=n_validation, replace=False
        )
        is_validation[chosen] = True
    return candidates[~is_validation], candidates[is_validation]
