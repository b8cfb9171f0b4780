"""Arrays that are whole in most episodes and not in some: which, and what is wrong there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lfm_policy.data.replay_buffer import not_finite

_NAMED = 4
"""So many episodes are named with what is wrong in them."""


def broken_in_words(name: str, found: Mapping[str, str], n_episodes: int) -> str:
    """Return a sentence that says in which episodes an array is broken.

    Args:
        name: of the array, with its dataset.
        found: episode -> what is wrong with the array there, to follow the episode's name.
        n_episodes: number of all episodes.
    """
    named = ", ".join(f"{episode} {wrong}" for episode, wrong in list(found.items())[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return (
        f"{name} is broken in {len(found)} of {n_episodes} episodes: {named}{more}; repair or drop "
        "these episodes"
    )


def not_finite_episodes(
    array: np.ndarray, ends: np.ndarray, names: Sequence[str] = ()
) -> dict[str, str]:
    """Return the episodes that hold NaN or infinity in float32, and the first step that does.

    Args:
        array: (T, ...), episodes end to end.
        ends: (E,) where they end, cumulative and exclusive.
        names: of the episodes; by default their numbers.
    """
    rows, _ = not_finite(array)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    found = {}
    for episode in np.unique(np.searchsorted(ends, rows, side="right")).tolist():
        begin, end = int(starts[episode]), int(ends[episode])
        steps, value = not_finite(array[begin:end])
        name = names[episode] if names else f"episode {episode}"
        found[name] = f"holds {value} in step {steps[0]}"
    return found
