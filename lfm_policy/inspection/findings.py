"""What usually ruins training: single dimensions, whole episodes and cameras that look wrong.

Every function takes the low-dimensional arrays of a dataset, their statistics by key, or both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from lfm_policy.config.schema import PolicyConfig
from lfm_policy.data.outliers import far_outside
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.resolution import (
    CONSTANT_RANGE,
    coarse_elements,
    coarse_message,
    far_elements,
    is_wide,
    levels,
)
from lfm_policy.data.windows import shortest_episode
from lfm_policy.inspection.cameras import CameraFacts
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.findings_timing import find_actions_out_of_step
from lfm_policy.inspection.ranges import Ranges, dimensions, flat

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

FROZEN_FRAMES, FROZEN_SECONDS = 10, 1.0
"""Equal frames in a row that count as frozen: this many, or this time where the rate is known."""

MOVED_SHARE = 0.1
"""Something has moved when it spans at least this share of its 1% to 99% range."""


def find_all(
    buffer: ReplayBuffer,
    ranges: Mapping[str, Ranges],
    cameras: Mapping[str, CameraFacts],
    *,
    fps: float | None = None,
    policy_name: Callable[[str], str] = str,
) -> tuple[list[Finding], list[str]]:
    """Return what usually ruins training and is found in these data, and notes on the search.

    Args:
        buffer: low-dimensional arrays.
        ranges: their statistics by key.
        cameras: what the frames of every camera show, by its name.
        fps: steps per second, if known.
        policy_name: what a policy calls an array when nobody renames it.
    """
    notes = []
    if buffer.n_episodes > COMPARED_EPISODES:
        notes.append(
            f"only the first {COMPARED_EPISODES} of {buffer.n_episodes} episodes were compared "
            "with one another in search of duplicates"
        )
    out_of_step, note = find_actions_out_of_step(buffer, ranges, fps=fps)
    findings = [
        *find_short_episodes(buffer),
        *find_duplicate_episodes(buffer, ranges),
        *find_constant_dimensions(ranges),
        *find_far_numbers(buffer, ranges),
        *find_outliers(buffer, ranges, policy_name),
        *out_of_step,
    ]
    for name, camera in cameras.items():
        findings += find_black_episodes(name, camera, buffer)
        findings += find_frozen_camera(name, camera, buffer, ranges, fps=fps)
    return findings, [*notes, note] if note else notes


def find_constant_dimensions(ranges: Mapping[str, Ranges]) -> list[Finding]:
    """Warn of dimensions that never change, one finding per key.

    Constant is what the normaliser counts as constant: a span below `CONSTANT_RANGE`.
    """
    findings = []
    for key, stats in ranges.items():
        constant = np.flatnonzero(stats.max - stats.min < CONSTANT_RANGE).tolist()
        if not constant:
            continue
        values = [float(f"{stats.mean[d]:.6g}") for d in constant]
        it, changes = ("it", "changes") if len(constant) == 1 else ("them", "change")
        what = f"{key} out" if len(constant) == len(stats.min) else "out what does not move"
        message = (
            f"{key}[{listed(constant)}] never {changes} (always {listed(values)}), so there is "
            f"nothing to learn from {it}: check the recording, or leave {what}"
        )
        facts = {"key": key, "dimensions": constant, "values": values}
        findings.append(Finding("constant", message, facts))
    return findings


def find_far_numbers(buffer: ReplayBuffer, ranges: Mapping[str, Ranges]) -> list[Finding]:
    """Warn of dimensions that lie so far from zero that float32 cannot resolve how they move.

    One finding per key: ``coarse`` where the file has lost it already, ``far`` where it is there in
    float64, and has to come in float64 in use as well.
    """
    findings = []
    for key, array in buffer.arrays.items():
        stats = ranges[key]
        if coarse := coarse_elements(array):
            facts: dict[str, Any] = {"key": key, "dimensions": coarse, "dtype": array.dtype.name}
            findings.append(Finding("coarse", coarse_message(key, array, coarse), facts))
            continue
        far = np.flatnonzero(far_elements(stats.min, stats.max)).tolist()
        if not far or not is_wide(array.dtype):
            continue
        d = far[0]
        steps = float(levels(stats.min, stats.max, np.float32)[d])
        message = (
            f"{key}[{listed(far)}] lies far from zero for how little it moves: {key}[{d}] goes "
            f"from {stats.min[d]:.10g} to {stats.max[d]:.10g}, {steps:.0f} steps of float32. "
            "Training subtracts its offset in float64, and in use it must be given in float64 too; "
            "if it is a time or a count of steps, leave it out"
        )
        facts = {"key": key, "dimensions": far, "float32_steps": steps}
        findings.append(Finding("far", message, facts))
    return findings


def find_outliers(
    buffer: ReplayBuffer, ranges: Mapping[str, Ranges], policy_name: Callable[[str], str] = str
) -> list[Finding]:
    """Warn of values far outside the range of nearly all others, one finding per dimension.

    Far is what `far_outside` says: such a value squeezes all others together when it sets the
    limits of the normaliser.
    """
    findings = []
    for key, d, values in dimensions(buffer):
        low, high = ranges[key].q01[d], ranges[key].q99[d]
        count = int(far_outside(values, low, high).sum())
        if not count:
            continue
        worst = int(np.argmax(np.maximum(low - values, values - high)))
        episode, step = buffer.place(worst)
        by_quantiles = (
            "normalization.action=quantiles"
            if key == ACTION_KEY
            else f"'normalization.keys={{{policy_name(key)}: quantiles}}'"
        )
        message = (
            f"{key}[{d}] has {count} {'value' if count == 1 else 'values'} far outside its usual "
            f"{low:.4g} to {high:.4g}; the worst is {values[worst]:.4g} in episode {episode}, step "
            f"{step}: repair or drop such episodes, or set {by_quantiles}"
        )
        facts = {
            **{"key": key, "dimension": d, "count": count, "q01": float(low), "q99": float(high)},
            **{"worst": float(values[worst]), "episode": episode, "step": step},
        }
        findings.append(Finding("outlier", message, facts))
    return findings


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


def find_black_episodes(name: str, camera: CameraFacts, buffer: ReplayBuffer) -> list[Finding]:
    """Warn of episodes that a camera shows in black from the first to the last frame.

    Returns:
        One finding for all episodes, or none.
    """
    episodes = _black_episodes(camera, buffer)
    message = (
        f"{name} shows only black in {len(episodes)} of {camera.n_episodes} episodes: "
        f"{listed(episodes)}: drop them, or find out whether the camera was covered or off"
    )
    facts = {"key": name, "episodes": episodes}
    return [Finding("black_images", message, facts)] if episodes else []


def find_frozen_camera(
    name: str,
    camera: CameraFacts,
    buffer: ReplayBuffer,
    ranges: Mapping[str, Ranges],
    *,
    fps: float | None = None,
) -> list[Finding]:
    """Warn where a camera repeats one frame while actions or observations move.

    Frozen are at least `FROZEN_FRAMES` equal frames in a row (`FROZEN_SECONDS` where the rate is
    known). A camera that watches a robot at rest is not: some dimension must move meanwhile, see
    `MOVED_SHARE`; clocks and counters, which never go back, do not count. Black episodes are left
    to `find_black_episodes`.

    Returns:
        One finding per run of equal frames.
    """
    fewest = FROZEN_FRAMES if fps is None else max(2, round(fps * FROZEN_SECONDS))
    black = set(_black_episodes(camera, buffer))
    runs = [
        (episode, first, last)
        for episode, first, last in _runs(camera.repeated, buffer)
        if last - first + 1 >= fewest and episode not in black
    ]
    findings = []
    movers = _moving(buffer, ranges, runs) if runs else []
    for (episode, first, last), mover in zip(runs, movers, strict=True):
        if mover is None:
            continue
        start = int(buffer.episode_starts[episode])
        steps = {"from": first - start, "to": last - start}
        message = (
            f"{name} repeats one frame in episode {episode}, steps {steps['from']} to "
            f"{steps['to']}, while {mover} moves: drop the episode or cut these steps out, unless "
            "nothing that moves was in view"
        )
        facts = {"key": name, "episode": episode, **steps, "moving": mover}
        findings.append(Finding("frozen_camera", message, facts))
    return findings


def _black_episodes(camera: CameraFacts, buffer: ReplayBuffer) -> list[int]:
    n = camera.n_episodes
    spans = zip(buffer.episode_starts[:n], buffer.episode_ends[:n], strict=True)
    return [episode for episode, (a, b) in enumerate(spans) if camera.black[a:b].all()]


def _runs(repeated: np.ndarray, buffer: ReplayBuffer) -> list[tuple[int, int, int]]:
    """Return (episode, first, last) of every run of equal frames, steps over all episodes."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], repeated, [False]]).astype(np.int8)))
    firsts, lasts = edges[0::2] - 1, edges[1::2] - 1  # the frame repeated belongs to the run
    episodes = np.searchsorted(buffer.episode_ends, firsts, side="right")
    return list(zip(episodes.tolist(), firsts.tolist(), lasts.tolist(), strict=True))


def _moving(
    buffer: ReplayBuffer, ranges: Mapping[str, Ranges], runs: list[tuple[int, int, int]]
) -> list[str | None]:
    """Return for each run which dimension moves most, as ``key[d]``, or None."""
    largest = np.full(len(runs), MOVED_SHARE)
    names: list[str | None] = [None] * len(runs)
    inside = np.ones(max(buffer.n_steps - 1, 0), bool)
    inside[buffer.episode_ends[:-1] - 1] = False  # steps from one episode into the next
    for key, d, values in dimensions(buffer):
        width = ranges[key].width[d]
        changes = np.diff(values)[inside]
        if width <= 0 or (changes >= 0).all() or (changes <= 0).all():
            continue
        for number, (_, first, last) in enumerate(runs):
            share = np.ptp(values[first : last + 1]) / width
            if share >= largest[number]:
                largest[number], names[number] = share, f"{key}[{d}]"
    return names
