"""What rollouts leave beside numbers: videos of chosen episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lfm_envs
import numpy as np

from lfm_policy.data.images.video_writer import VideoWriter
from lfm_policy.environments import DEFAULT_RATE, steps_per_second
from lfm_policy.errors import EvaluationError, InputError
from lfm_policy.evaluation.episodes import (
    EpisodeResult,
    RolloutConfig,
    Running,
    describe_outcome,
    outcome_of,
    settled,
)
from lfm_policy.evaluation.reporting.captions import Captions
from lfm_policy.evaluation.rollouts import rollout
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.pictures import LIGHT
from lfm_runtime.disk.files import atomic_file

VIDEO_SIZE = 256
VIDEOS_AT_ONCE = 8
MEMORY = 512 * 2**20
"""Bytes of frames that are kept at a time, unless one episode has more."""
DEFAULT_FPS = round(DEFAULT_RATE)
CRF = 23
"""Quality of H.264, its own default: these are looked at, not trained on."""


def record_videos(
    policy: EvaluatedPolicy, config: RolloutConfig, results: Sequence[EpisodeResult], folder: Path
) -> dict[int, np.ndarray]:
    """Run episodes once more, rendered, and write ``episode_<i>_<outcome>.mp4``.

    Below the picture a strip says step, time and reward, and at the end the outcome, see
    `lfm_policy.evaluation.reporting.captions`.

    The outcome is ``success`` or ``failure``, or ``unknown`` where the environment does not say.
    Rollouts are reproducible, so the videos show the episodes that were counted; this is checked.

    Args:
        policy: with the sampler of the evaluation.
        config: of the evaluation.
        results: of the episodes to be shown.
        folder: where the videos go.

    Returns:
        The last frame of each episode, without its strip, uint8 (VIDEO_SIZE, VIDEO_SIZE, 3), or in
        the size that an environment of another package draws.

    Raises:
        InputError: the environment draws nothing.
        EvaluationError: an episode did not repeat itself.
    """
    last_frames: dict[int, np.ndarray] = {}
    waiting = list(results)
    at_once = 1  # until it is known how large the pictures are
    while waiting:
        part, waiting = waiting[:at_once], waiting[at_once:]
        rendered, fps = _render(policy, config, part)
        if waiting:
            picture, _ = rendered[part[0].episode][0]
            longest = max(result.steps for result in waiting) + 1
            at_once = max(1, min(VIDEOS_AT_ONCE, MEMORY // (picture.nbytes * longest)))
        for result in part:
            name = f"episode_{result.episode:04d}"
            path = folder / f"{name}_{outcome_of(result)}.mp4"
            for earlier in folder.glob(f"{name}_*.mp4"):  # which may have had another outcome
                earlier.unlink()
            captions = Captions(
                steps=result.steps,
                hz=fps,
                chunk=policy.n_action_steps,
                colour=LIGHT.policy_colour(policy.config.student_blocks),
                outcome=describe_outcome(result),
            )
            frames, rewards = zip(*rendered[result.episode], strict=True)
            write_video(path, captions.below(frames, rewards), fps=fps)
            last_frames[result.episode] = frames[-1]
    return last_frames


def _render(
    policy: EvaluatedPolicy, config: RolloutConfig, results: Sequence[EpisodeResult]
) -> tuple[dict[int, list[tuple[np.ndarray, float]]], int]:
    """Return each episode's frames with its largest reward so far, and the frames per second."""
    frames: dict[int, list[tuple[np.ndarray, float]]] = {result.episode: [] for result in results}
    fps = DEFAULT_FPS

    def forget(again: Sequence[int]) -> None:
        for episode in again:
            frames[episode].clear()

    def keep(playing: Sequence[Running | None], envs: Any) -> None:
        nonlocal fps
        fps = max(1, round(steps_per_second(envs.metadata)))
        rendered, why = None, ""
        try:
            rendered = envs.render()
        except (lfm_envs.WorkerDiedError, lfm_envs.MissingSimulatorError):
            raise
        except Exception as error:  # of a user's environment, such as one without a display
            why = f" (render() raised {type(error).__name__}: {error})"
        if rendered is None or not all(map(_is_picture, rendered)):
            raise InputError(
                f"environment '{config.env_id}' draws no images{why}, so its episodes cannot be "
                "filmed: leave --video out, or let its render() return uint8 (height, width, 3) "
                "with render_mode 'rgb_array'"
            )
        for j, running in enumerate(playing):
            # Not again where an episode is over, or stands still while another one begins.
            if running is not None and len(frames[running.episode]) == running.steps:
                # A copy: it may draw into the same array every time.
                frames[running.episode].append((np.array(rendered[j]), running.max_reward))

    try:
        again = rollout(
            policy,
            config if config.processes else replace(config, num_envs=len(results)),
            [result.episode for result in results],
            on_step=keep,
            on_restart=forget,
            render_size=VIDEO_SIZE,
        )
    except InputError as error:
        if "TypeError" in str(error):
            raise InputError(
                f"{error}; one that is filmed is made with render_mode='rgb_array', which it has "
                "to take"
            ) from None
        raise
    # An episode that says nothing of success may have been settled by others that do.
    reported = any(result.success is not None for result in results)
    if settled(again, reported=reported) != list(results):
        raise EvaluationError(
            "the episodes did not repeat themselves while being filmed: the environment or the "
            "device is not deterministic"
        )
    return frames, fps


def _is_picture(frame: Any) -> bool:
    array = np.asarray(frame)
    return array.ndim == 3 and array.shape[-1] == 3 and array.dtype == np.uint8


def write_video(path: Path, frames: Sequence[np.ndarray], *, fps: int = DEFAULT_FPS) -> None:
    """Write RGB frames, uint8 (H, W, 3), as H.264 MP4, without an odd last row or column."""
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    with (
        atomic_file(path) as temporary,
        VideoWriter(
            temporary, height=height, width=width, fps=fps, crf=CRF, keyframe_every=None
        ) as writer,
    ):
        writer.write(frame[:height, :width] for frame in frames)
