"""The images of one camera of a LeRobot dataset, to be decoded into the image cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from lfm_policy.data.assumption import warn_assumed
from lfm_policy.data.images.cache import CachedImages
from lfm_policy.data.lerobot.episodes import Episode
from lfm_policy.data.lerobot.feature import Feature
from lfm_policy.data.lerobot.files import files_digest, require_file
from lfm_policy.data.lerobot.images import check_pictures, read_pictures
from lfm_policy.data.lerobot.info import DatasetInfo
from lfm_policy.data.lerobot.video import check_video, clips_of, frame_count, read_clips
from lfm_runtime.disk.files import is_file


def camera_images(
    info: DatasetInfo,
    feature: Feature,
    episodes: Sequence[Episode],
    times: Sequence[np.ndarray],
) -> CachedImages:
    """Return the images of ``episodes``, uint8 (T, height, width, channels) once they are opened.

    Only their files and the size of the first are checked here.

    Args:
        info: of the dataset.
        feature: the camera, of dtype video or image.
        episodes: what is read; at least one.
        times: for each of them the times of its steps in seconds, (length,) float64.

    Raises:
        InputError: a file is absent or damaged, or the first image has another size.
    """
    shape, frames = feature.frame_shape, hashlib.sha256()
    if feature.dtype == "video":
        if info.has_file_per_episode:
            times = _from_the_first_frame(info, feature, episodes, times)
        clips = clips_of(feature.key, episodes, times, info.fps)
        files = dict.fromkeys(clip.path for clip in clips)
        for clip in clips:
            require_file(clip.path, f"the frames of episode {clip.episode} are there")
            frames.update(np.ascontiguousarray(clip.times, "<f8").data)
        check_video(clips[0].path, feature)
        parts = read_clips(clips, shape, info.fps)
    else:
        files = dict.fromkeys(episode.data for episode in episodes)
        check_pictures(episodes[0], feature)
        parts = read_pictures(episodes, feature)
    for episode in episodes:
        frames.update(f"{episode.index} {episode.first_row} {episode.length}\n".encode())
    facts = {
        "format": "lerobot",
        "feature": feature.key,
        "episodes": len(episodes),
        "files": files_digest(files),
        "frames": frames.hexdigest(),
    }
    n_frames = sum(episode.length for episode in episodes)
    return CachedImages(f"{info.root}: {feature.key}", facts, n_frames, shape, parts)


def _from_the_first_frame(
    info: DatasetInfo,
    feature: Feature,
    episodes: Sequence[Episode],
    times: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Return the times of steps in videos that hold one episode each.

    LeRobot counts them from the first frame. Others count from somewhere else, such as 1970 or one
    step before: where a video has as many frames as the episode has steps, the first frame is that
    of the first step all the same.
    """
    counted, largest = [], 0.0
    for episode, own in zip(episodes, times, strict=True):
        path = episode.videos[feature.key].path
        begins_late = abs(own[0]) > 0.5 / info.fps and is_file(path)
        if begins_late and frame_count(path) == episode.length:
            largest = max(largest, abs(float(own[0])))
            own = own - own[0]
        counted.append(own)
    if largest:
        absent = f"timestamp 0 of the first step (found up to {largest:g} s)"
        warn_assumed(
            info.root,
            {absent: f"frame k of a video of {feature.key} belongs to step k of its episode"},
        )
    return counted
