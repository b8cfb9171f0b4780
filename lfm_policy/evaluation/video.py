"""Videos of chosen episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from lfm_policy.evaluation.rollouts import EpisodeResult, RolloutConfig, rollout
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.files import atomic_file

VIDEO_SIZE = 256
VIDEOS_AT_ONCE = 8
DEFAULT_FPS = 10


def record_videos(
    policy: EvaluatedPolicy, config: RolloutConfig, results: Sequence[EpisodeResult], folder: Path
) -> dict[int, np.ndarray]:
    """Run episodes once more, rendered, and write ``episode_<i>_<success|failure>.mp4``.

    Rollouts are reproducible, so the videos show the episodes that were counted; this is checked.

    Args:
        policy: with the sampler of the evaluation.
        config: of the evaluation.
        results: of the episodes to be shown.
        folder: where the videos go.

    Returns:
        The last frame of each episode, uint8 (VIDEO_SIZE, VIDEO_SIZE, 3).

    Raises:
        RuntimeError: an episode did not repeat itself.
    """
    last_frames: dict[int, np.ndarray] = {}
    for begin in range(0, len(results), VIDEOS_AT_ONCE):
        part = results[begin : begin + VIDEOS_AT_ONCE]
        frames, fps = _render(policy, config, part)
        for result in part:
            outcome = "success" if result.success else "failure"
            path = folder / f"episode_{result.episode:04d}_{outcome}.mp4"
            # Frames after the end of the episode only repeat the last one.
            write_video(path, frames[result.episode][: result.steps + 1], fps=fps)
            last_frames[result.episode] = frames[result.episode][result.steps]
    return last_frames


def _render(
    policy: EvaluatedPolicy, config: RolloutConfig, results: Sequence[EpisodeResult]
) -> tuple[dict[int, list[np.ndarray]], int]:
    """Return the frames of each episode, and how many there are in a second of it."""
    frames: dict[int, list[np.ndarray]] = {result.episode: [] for result in results}
    fps = DEFAULT_FPS

    def forget(again: Sequence[int]) -> None:
        for episode in again:
            frames[episode].clear()

    def keep(playing: Sequence[int | None], envs: Any) -> None:
        nonlocal fps
        fps = int(envs.metadata.get("render_fps", DEFAULT_FPS))
        rendered = envs.render()
        for j, episode in enumerate(playing):
            if episode is not None:
                frames[episode].append(np.asarray(rendered[j]))

    again = rollout(
        policy,
        config if config.processes else replace(config, num_envs=len(results)),
        [result.episode for result in results],
        on_step=keep,
        on_restart=forget,
        render_size=VIDEO_SIZE,
    )
    if list(again) != list(results):
        raise RuntimeError(
            "the episodes did not repeat themselves while being filmed: the environment or the "
            "device is not deterministic"
        )
    return frames, fps


def write_video(path: Path, frames: Sequence[np.ndarray], *, fps: int = DEFAULT_FPS) -> None:
    """Write RGB frames, uint8 (H, W, 3) with even H and W, as H.264 MP4."""
    with atomic_file(path) as temporary:
        iio.imwrite(
            temporary,
            np.stack(frames),
            plugin="pyav",
            codec="libx264",
            fps=fps,
            out_pixel_format="yuv420p",
        )
