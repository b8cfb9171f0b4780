"""Warnings about cameras: frozen while the robot moved, and black throughout an episode."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.cameras import CameraFacts
from lfm_policy.inspection.finding import Finding, listed
from lfm_policy.inspection.ranges import Ranges, dimensions

FROZEN_FRAMES, FROZEN_SECONDS = 10, 1.0
"""Equal frames in a row that count as frozen: this many, or this time where the rate is known."""

MOVED_SHARE = 0.1
"""Something has moved when it spans at least this share of its 1% to 99% range."""


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
