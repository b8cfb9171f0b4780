"""Jerk and steps of executed actions where one chunk follows another, beside those inside chunks.

Where the chunks of a policy are drawn one after the other, each with noise of its own, the next one
need not go on where the last one ended. A robot feels that as jerk, the third derivative in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ORDER = 3
"""Of the difference that stands for the jerk."""


@dataclass(frozen=True)
class Smoothness:
    """How actions go on across the joins of chunks.

    Jerks are root mean squares of |a[t] - 3 a[t-1] + 3 a[t-2] - a[t-3]| * hz^3, in units of the
    actions per second cubed; steps are means of |a[t] - a[t-1]|, in units of the actions. None
    where there is nothing to take a mean of.

    Attributes:
        jerk_at_joins: of differences whose four actions are of two chunks.
        jerk_inside: of those whose actions are of one chunk, of at least four actions.
        step_at_joins: from the last action of a chunk to the first of the next one.
        step_inside: from one action of a chunk to its next.
        n_joins: joins.
    """

    jerk_at_joins: float | None
    jerk_inside: float | None
    step_at_joins: float | None
    step_inside: float | None
    n_joins: int

    @property
    def jerk_ratio(self) -> float | None:
        """Jerk at joins over that inside chunks; 1 where joins are not felt."""
        return _ratio(self.jerk_at_joins, self.jerk_inside)

    @property
    def step_ratio(self) -> float | None:
        """Step at joins over that inside chunks."""
        return _ratio(self.step_at_joins, self.step_inside)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "jerk_ratio": self.jerk_ratio, "step_ratio": self.step_ratio}


def smoothness_of(episodes: Sequence[np.ndarray], *, n_action_steps: int, hz: float) -> Smoothness:
    """Return how executed actions go on.

    Args:
        episodes: (T, action_dim) each, the actions of a policy that always predicts on time: from
            the first one on, ``n_action_steps`` of every chunk. For positions, jerk is that of what
            is asked of the robot, which itself is slower.
        n_action_steps: actions of a chunk.
        hz: actions per second.
    """
    jerks: dict[bool, list[np.ndarray]] = {False: [], True: []}
    steps: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for actions in episodes:
        rows = np.asarray(actions, dtype=np.float64)
        chunk = np.arange(len(rows)) // n_action_steps
        for order, found in ((ORDER, jerks), (1, steps)):
            if len(rows) <= order:
                continue
            size = np.linalg.norm(np.diff(rows, n=order, axis=0), axis=-1)
            joins = chunk[order:] != chunk[:-order]
            for across in (False, True):
                found[across].append(size[joins == across])

    def jerk(across: bool) -> float | None:
        mean = _mean([np.square(size) for size in jerks[across]])
        return None if mean is None else float(np.sqrt(mean)) * hz**ORDER

    return Smoothness(
        jerk_at_joins=jerk(True),
        jerk_inside=jerk(False),
        step_at_joins=_mean(steps[True]),
        step_inside=_mean(steps[False]),
        n_joins=sum(map(len, steps[True])),
    )


def _mean(parts: Sequence[np.ndarray]) -> float | None:
    values = np.concatenate(parts) if parts else np.zeros(0)
    return float(values.mean()) if len(values) else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
