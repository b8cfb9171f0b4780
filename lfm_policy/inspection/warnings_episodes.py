"""Warnings about whole episodes: too short ones, and pairs that are almost the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

import numpy as np

from lfm_policy.config.schema import PolicyConfig
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.windows import shortest_episode
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.ranges import Ranges, flat

_POLICY = PolicyConfig()

SHORTEST_EPISODE = _POLICY.horizon
"""Steps; the default length of an action chunk."""

_SHORTEST_TRAINED = shortest_episode(_POLICY.n_obs_steps, _POLICY.horizon, _POLICY.n_action_steps)

DUPLICATE_DISTANCE = 0.01
"""Two episodes are near-duplicates when in every dimension the root mean square of their
difference is below this share of the dimension's 1% to 99% range. The nearest two of the 206 human
PushT demonstrations are 0.12 apart."""

COMPARED_EPISODES = 2000
"""No more episodes than this (the first ones) are compared."""

COMPARED_DIMENSIONS = 128
"""No more dimensions than this are compared, the action first."""

REPORTED_PAIRS = 100

_RESAMPLED_STEPS = 32
_ROWS = 256


def find_short_episodes(buffer: ReplayBuffer) -> list[Finding]:
    """Warn of episodes shorter than `SHORTEST_EPISODE` steps, one finding for all.

    It says what the default lengths do with them: edge frames repeated, or left out.
    """
    lengths = buffer.episode_lengths
    short = np.flatnonzero(lengths < SHORTEST_EPISODE).tolist()
    if not short:
        return []
    counts = [int(lengths[episode]) for episode in short]
    n_left_out = sum(count < _SHORTEST_TRAINED for count in counts)
    named = [f"{e} ({n} steps)" for e, n in zip(short, counts, strict=True)]
    message = (
        f"{len(short)} of {buffer.n_episodes} episodes are shorter than {SHORTEST_EPISODE} steps: "
        f"{listed(named)}: with policy.horizon {SHORTEST_EPISODE} training repeats their edge "
        f"frames and leaves out those of fewer than {_SHORTEST_TRAINED} steps ({n_left_out}): drop "
        "them if they were broken off, or choose a shorter policy.horizon"
    )
    facts = {"episodes": short, "lengths": counts, "left_out": n_left_out}
    return [Finding("short_episodes", message, facts)]


def find_duplicate_episodes(buffer: ReplayBuffer, ranges: Mapping[str, Ranges]) -> list[Finding]:
    """Warn of pairs of episodes that are almost the same, one finding per pair.

    Every episode is resampled to a common length, every dimension scaled by its 1% to 99% range
    and clipped to it; see `DUPLICATE_DISTANCE`. Images are not compared. At most the first
    `COMPARED_EPISODES` episodes are, and at most `REPORTED_PAIRS` pairs reported.
    """
    curves = _resampled(buffer, ranges)
    if curves.shape[2] == 0:  # nothing moves at all
        return []
    findings = []
    for first, second, distance in islice(_close_pairs(curves), REPORTED_PAIRS):
        alike = "the same"
        if distance >= 5e-5:
            alike = (
                f"almost the same: no dimension differs by more than {distance:.2%} of its range"
            )
        lengths = [int(buffer.episode_lengths[episode]) for episode in (first, second)]
        message = (
            f"episodes {first} and {second} ({lengths[0]} and {lengths[1]} steps) are {alike}: if "
            "one is a copy of the other, drop it, or validation will see what training has seen"
        )
        facts = {"episodes": [first, second], "lengths": lengths, "distance": distance}
        findings.append(Finding("duplicate_episodes", message, facts))
    return findings


def _resampled(buffer: ReplayBuffer, ranges: Mapping[str, Ranges]) -> np.ndarray:
    """Return (E, steps, dimensions) float32: values as share of their range."""
    n_episodes = min(buffer.n_episodes, COMPARED_EPISODES)
    keys = sorted(buffer.arrays, key=lambda key: key != ACTION_KEY)
    shares = []
    left = COMPARED_DIMENSIONS
    for key in keys:
        moving = np.flatnonzero(ranges[key].width > 0)[:left]
        left -= len(moving)
        low, width = ranges[key].q01[moving], ranges[key].width[moving]
        columns = flat(buffer.arrays[key])[: buffer.episode_ends[n_episodes - 1], moving]
        shares.append(np.clip((columns - low) / width, 0, 1).astype(np.float32))
    values = np.concatenate(shares, axis=1)

    # Linear interpolation at evenly spread times of every episode at once.
    starts, lengths = buffer.episode_starts[:n_episodes], buffer.episode_lengths[:n_episodes]
    times = np.linspace(0, 1, _RESAMPLED_STEPS) * (lengths[:, None] - 1)
    before = np.floor(times).astype(np.int64)
    after = np.minimum(before + 1, lengths[:, None] - 1)
    weight = (times - before)[..., None].astype(np.float32)
    before, after = before + starts[:, None], after + starts[:, None]
    return values[before] * (1 - weight) + values[after] * weight


def _close_pairs(curves: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yield (first, second, distance) with first < second, some rows of the table at a time."""
    n, steps, n_dims = curves.shape
    vectors = curves.reshape(n, -1) - curves.reshape(n, -1).mean(axis=0)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    for begin in range(0, n, _ROWS):
        part = slice(begin, begin + _ROWS)
        products = vectors[part] @ vectors[begin:].T
        distances = squares[part, None] + squares[None, begin:] - 2 * products
        # The mean over dimensions is a cheap lower bound of the largest, which decides.
        candidates = distances < 1.1 * DUPLICATE_DISTANCE**2 * steps * n_dims
        for row, column in np.argwhere(np.triu(candidates, k=1)):
            difference = curves[begin + row] - curves[begin + column]
            distance = float(np.sqrt((difference**2).mean(axis=0)).max())
            if distance < DUPLICATE_DISTANCE:
                yield int(begin + row), int(begin + column), distance
