"""Which episodes are shown, and their videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from lfm_policy.demo.evaluations import VIDEOS, KeptEvaluation
from lfm_policy.evaluation import EpisodeResult, RolloutConfig
from lfm_policy.evaluation.recording import record_videos
from lfm_policy.policy import Policy
from lfm_runtime.disk.files import atomic_file


@dataclass(frozen=True)
class ChosenEpisode:
    """An episode that all policies are shown in, and why it was chosen."""

    episode: int
    why: str


def choose_episodes(results: Sequence[Sequence[EpisodeResult]]) -> list[ChosenEpisode]:
    """Choose an easy episode, one that not all policies solve, and the hardest one.

    Args:
        results: one sequence per policy, of the same episodes in the same order.

    Returns:
        One to three episodes, none of them twice: where there is none of a kind, it is left out.
    """
    solved = np.array([[bool(result.success) for result in policy] for policy in results])
    rewards = np.array([[result.max_reward for result in policy] for policy in results])
    episodes = [result.episode for result in results[0]]
    by_all = np.flatnonzero(solved.all(axis=0))
    by_some = np.flatnonzero(solved.any(axis=0) & ~solved.all(axis=0))
    by_none = np.flatnonzero(~solved.any(axis=0))
    chosen = []
    if len(by_all):
        chosen.append(ChosenEpisode(episodes[by_all[0]], "every policy solves it"))
    if len(by_some):
        chosen.append(ChosenEpisode(episodes[by_some[0]], "some policies solve it, some do not"))
    if len(by_none):
        hardest = by_none[np.argmin(rewards[:, by_none].mean(axis=0))]
        chosen.append(ChosenEpisode(episodes[hardest], "the hardest: the lowest rewards of all"))
    return chosen


def film(
    policy: Policy,
    config: RolloutConfig,
    evaluation: KeptEvaluation,
    chosen: Sequence[ChosenEpisode],
) -> dict[int, Path]:
    """Return the video of each chosen episode, MP4; those that are there already are kept.

    Raises:
        RuntimeError: an episode did not repeat itself.
    """
    folder = evaluation.folder / VIDEOS
    results = {result.episode: result for result in evaluation.cell.episodes}
    numbers = [episode.episode for episode in chosen]
    missing = [results[number] for number in numbers if not _pictures(folder, number)]
    for number in record_videos(policy, config, missing, folder):
        (video,) = folder.glob(f"{_stem(number)}.mp4")
        write_last_frame(video)
    return {number: _pictures(folder, number)[0].with_suffix(".mp4") for number in numbers}


def write_last_frame(video: Path) -> None:
    """Write the last frame of a video as PNG beside it, which is shown before it is played."""
    with av.open(str(video)) as container:
        *_, last = container.decode(video=0)
    with atomic_file(video.with_suffix(".png")) as temporary:
        last.to_image().save(temporary, format="PNG")


def _pictures(folder: Path, episode: int) -> list[Path]:
    """Return the picture of an episode, which is written after its video, if it is there."""
    return list(folder.glob(f"{_stem(episode)}.png"))


def _stem(episode: int) -> str:
    return f"episode_{episode:04d}_*"
