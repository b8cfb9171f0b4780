"""Attempts that worker processes of the tests can import: no simulator, and crashes on demand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lfm_policy.collect.options import CollectOptions
from lfm_policy.data.robomimic.demos import Demo, DemoRecording


def quick(path: Path, options: CollectOptions, seed: int) -> bool:
    """Succeed, but for every third seed."""
    recording = DemoRecording(path, options.facts())
    if seed % 3 == 0:
        recording.skip(seed)
        return False
    steps = 2 + seed % 4
    recording.add(
        seed,
        Demo(
            actions=np.full((steps, 1), seed, dtype=np.float64),
            obs={"x": np.zeros((steps, 1), dtype=np.float32)},
            rewards=np.ones(steps),
            dones=np.ones(steps),
            attributes={"seed": seed},
        ),
    )
    return True


def crashes_once(path: Path, options: CollectOptions, seed: int) -> bool:
    """Kill the process at the first attempt of one seed."""
    marker = path.parent / "crashed"
    if seed == options.seed_start + 1 and not marker.exists():
        marker.touch()
        os._exit(3)
    return quick(path, options, seed)


def always_crashes(path: Path, options: CollectOptions, seed: int) -> bool:
    """Kill the process."""
    os._exit(3)
