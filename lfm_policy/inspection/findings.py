"""All warnings about a dataset."""

from __future__ import annotations

from collections.abc import Mapping

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.cameras import CameraFacts
from lfm_policy.inspection.finding import Finding
from lfm_policy.inspection.ranges import Ranges
from lfm_policy.inspection.warnings_episodes import find_duplicate_episodes, find_short_episodes
from lfm_policy.inspection.warnings_images import find_black_episodes, find_frozen_camera
from lfm_policy.inspection.warnings_timing import Leads, find_actions_out_of_step
from lfm_policy.inspection.warnings_values import (
    find_constant_dimensions,
    find_far_numbers,
    find_outliers,
)


def find_all(
    buffer: ReplayBuffer,
    ranges: Mapping[str, Ranges],
    cameras: Mapping[str, CameraFacts],
    *,
    fps: float | None = None,
    leads: Leads | None = None,
) -> list[Finding]:
    """Return what usually ruins training and is found in these data.

    Args:
        buffer: low-dimensional arrays.
        ranges: their statistics by key.
        cameras: what the frames of every camera show, by its name.
        fps: steps per second, if known.
        leads: what `best_leads` returned, if somebody has called it.
    """
    findings = [
        *find_short_episodes(buffer),
        *find_duplicate_episodes(buffer, ranges),
        *find_constant_dimensions(ranges),
        *find_far_numbers(buffer, ranges),
        *find_outliers(buffer, ranges),
        *find_actions_out_of_step(buffer, ranges, fps=fps, leads=leads),
    ]
    for name, camera in cameras.items():
        findings += find_black_episodes(name, camera, buffer)
        findings += find_frozen_camera(name, camera, buffer, ranges, fps=fps)
    return findings
