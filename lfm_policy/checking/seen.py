"""What the policy looks at: observations are exchanged between instants, one key at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_policy.checking.demonstrations import Instants
from lfm_policy.checking.open_loop import ActionScale, Errors, errors_of
from lfm_policy.checking.subject import Subject
from lfm_policy.evaluation.statistics import Interval, paired_bootstrap
from lfm_runtime.policy.spec import is_image

EXACT = 0.01
"""Residual variance, in that of a step from one action to the next, below which an observation
counts as a copy of the last action: it tells it to a tenth of a step."""


@dataclass(frozen=True)
class Shuffled:
    """One observation, shown as it was in another episode.

    Attributes:
        key: of the observation.
        increase: by how much the normalised error of the executed actions grows.
        interval: of that, over episodes, paired.
        moved: mean absolute change of the executed actions over that between the chunks of two
            instants: 0 where the policy does not look at it, 1 where it looks at nothing else.
    """

    key: str
    increase: float
    interval: Interval
    moved: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "key": self.key,
            "error_increase": self.increase,
            "interval": list(self.interval),
            "moved": self.moved,
        }


def shuffled_keys(
    subject: Subject,
    keys: tuple[str, ...],
    noise: np.ndarray,
    units: ActionScale,
    seed: int,
) -> list[Shuffled]:
    """Return what becomes of the policy's chunks when it sees one key of another instant.

    Permutation importance (Breiman 2001) of every key; the noise stays as it is. Keys that say the
    same (a position and the corners of the same body) can each be exchanged without much harm.

    Args:
        subject: the policy at its instants.
        keys: of the observations.
        noise: (M, horizon, action_dim) standard normal.
        units: of the actions.
        seed: of the exchange.
    """
    instants = subject.instants
    partner = partners(instants.episode, seed)
    rows = np.ones(len(instants), bool)
    weights = instants.executed[..., None] * units.scale

    def errors(chunks: np.ndarray) -> Errors:
        return errors_of(np.abs(chunks - instants.demonstrated), instants, units, rows)

    before = subject.executed(noise)
    reference = errors(before)
    # With all keys exchanged a chunk is that of the other instant, from the same noise.
    far = np.abs(subject.executed(noise, dict.fromkeys(keys, partner)) - before) * weights
    found = []
    for key in keys:
        after = subject.executed(noise, {key: partner})
        now = errors(after)
        moved = (np.abs(after - before) * weights).sum()
        found.append(
            Shuffled(
                key,
                now.mean - reference.mean,
                paired_bootstrap(list(now.per_episode), list(reference.per_episode)),
                float(moved / far.sum()) if far.sum() > 0 else 0.0,
            )
        )
    return found


def partners(episode: np.ndarray, seed: int) -> np.ndarray:
    """Return another instant for each of (M,) instants, of another episode if there is one."""
    generator = np.random.default_rng((seed, 1))
    order = np.argsort(episode, kind="stable")
    sizes = {int(e): int((episode == e).sum()) for e in np.unique(episode)}
    starts = {int(e): int(np.searchsorted(episode[order], e)) for e in sizes}
    partner = np.empty(len(episode), np.int64)
    for m, e in enumerate(episode.tolist()):
        others = len(episode) - sizes[e]
        if not others:
            partner[m] = generator.integers(len(episode))
            continue
        place = int(generator.integers(others))
        partner[m] = order[place if place < starts[e] else place + sizes[e]]
    return partner


def copies_of_last_action(instants: Instants, keys: tuple[str, ...]) -> dict[str, list[int]]:
    """Return which action dimensions the newest frame of an observation tells of the action before.

    A number of an observation is a copy where a straight line leads from it to the last action
    with next to no residual, see `EXACT`.

    Returns:
        Key -> dimensions of the action; keys that copy none are left out.
    """
    rows = np.flatnonzero(instants.started)
    if len(rows) < 10:
        return {}
    before = instants.before[rows]
    first = instants.obs_steps.shape[1] - 1
    step = np.square(instants.demonstrated[rows, first] - before).mean(0)
    found: dict[str, list[int]] = {}
    for key in keys:
        if is_image(instants.buffer.arrays[key].shape[1:]):
            continue
        newest = np.asarray(instants.buffer.arrays[key][instants.obs_steps[rows, -1]], np.float64)
        newest = newest.reshape(len(rows), -1)
        x, y = newest - newest.mean(0), before - before.mean(0)
        variance, power = np.square(x).mean(0), np.square(y).mean(0)
        usable = variance > 1e-12
        if not usable.any():
            continue
        explained = np.square(x[:, usable].T @ y / len(rows)) / variance[usable, None]
        residual = power - explained.max(0)
        copied = np.flatnonzero((step > 1e-12) & (residual < EXACT * step))
        if len(copied):
            found[key] = copied.tolist()
    return found
