"""The images of one camera of a LeRobot dataset: frames of videos, or pictures in parquet files."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from lfm_policy.data.assumption import warn_assumed
from lfm_policy.data.images.cache import CachedImages
from lfm_policy.data.images.depth import as_depth_advice, depth_parts
from lfm_policy.data.lerobot.episodes import Episode, VideoSpan
from lfm_policy.data.lerobot.files import files_digest, require_file
from lfm_policy.data.lerobot.info import DatasetInfo, Feature, UnusableFeature
from lfm_policy.data.lerobot.tables import check_column, open_parquet
from lfm_policy.data.lerobot.video import (
    clips_of,
    frame_count,
    in_parts,
    read_clips,
)
from lfm_policy.errors import InputError, reading
from lfm_runtime.disk.files import is_file

_BATCH_ROWS = 32
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DEPTH = "I;16"
"""Pillow's mode of grey pictures of 16 bits."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def camera_images(
    info: DatasetInfo,
    feature: Feature,
    episodes: Sequence[Episode],
    times: Sequence[np.ndarray],
    depth: tuple[float, float] | None = None,
) -> CachedImages:
    """Return the images of ``episodes``, uint8 (T, height, width, channels) once they are opened.

    Only whether the videos are there is checked here.

    Args:
        info: of the dataset.
        feature: the camera, of dtype video or image.
        episodes: what is read; at least one.
        times: for each of them the times of its steps in seconds, (length,) float64.
        depth: nearest and farthest distance, where the camera's pictures are depth.

    Raises:
        InputError: a video is absent, or shorter than its episode.
    """
    shape, frames = feature.frame_shape, hashlib.sha256()
    source = f"{info.root}: {feature.key}"
    if feature.dtype == "video":
        times = _from_the_first_frame(info, feature, episodes, times)
        clips = clips_of(feature.key, episodes, times, info.fps)
        files = dict.fromkeys(clip.path for clip in clips)
        for clip in clips:
            require_file(clip.path, f"the frames of episode {clip.episode} are there")
            frames.update(np.ascontiguousarray(clip.times, "<f8").data)
        parts = read_clips(clips, shape, info.fps)
    else:
        files = dict.fromkeys(episode.data for episode in episodes)
        dtype = np.dtype(np.uint16 if depth else np.uint8)
        parts = in_parts(_pictures(episodes, feature), shape, dtype)
        parts = depth_parts(source, parts, depth) if depth else parts
    for episode in episodes:
        frames.update(f"{episode.index} {episode.first_row} {episode.length}\n".encode())
    facts = {
        "format": "lerobot",
        "feature": feature.key,
        "episodes": len(episodes),
        "files": files_digest(files),
        "frames": frames.hexdigest(),
        **({"depth": depth} if depth else {}),
    }
    n_frames = sum(episode.length for episode in episodes)
    return CachedImages(source, facts, n_frames, shape, parts)


def _from_the_first_frame(
    info: DatasetInfo,
    feature: Feature,
    episodes: Sequence[Episode],
    times: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Return the times of steps, counted from the first frame of their episode.

    So LeRobot counts them. Others count from somewhere else, such as 1970 or one step before: where
    a video has as many frames of the episode as it has steps, the first frame is that of the first
    step all the same.
    """
    counted, largest = [], 0.0
    for episode, own in zip(episodes, times, strict=True):
        begins_late = abs(own[0]) > 0.5 / info.fps
        if begins_late and _frames(info, episode.videos[feature.key]) == episode.length:
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


def _frames(info: DatasetInfo, span: VideoSpan) -> int:
    """Return how many frames an episode has; 0 where its video is not there."""
    if not info.has_file_per_episode:
        return round((span.end - span.start) * info.fps) if math.isfinite(span.end) else 0
    return frame_count(span.path) if is_file(span.path) else 0


def check_picture(episode: Episode, feature: Feature) -> None:
    """Check that the first picture of an episode is of a kind and size that can be read.

    Raises:
        InputError: it is damaged, of another size than announced, or not there.
        UnusableFeature: the column holds no pictures, or they show depth.
    """
    next(_pictures([episode], feature))


def _pictures(episodes: Sequence[Episode], feature: Feature) -> Iterator[np.ndarray]:
    for members in _passes(episodes):
        path = members[0].data
        with open_parquet(path) as file:
            for episode, row, data in _rows(file, path, members, feature.key):
                source = f"{path}: column '{feature.key}', row {row} (episode {episode})"
                yield _picture(data, feature, source)


def _passes(episodes: Sequence[Episode]) -> Iterator[list[Episode]]:
    """Yield episodes that follow one another in a file: they are read in one pass."""
    members: list[Episode] = []
    for episode in episodes:
        if members and not (
            episode.data == members[-1].data and episode.first_row > members[-1].first_row
        ):
            yield members
            members = []
        members.append(episode)
    if members:
        yield members


def _rows(
    file: pq.ParquetFile, path: Path, episodes: Sequence[Episode], key: str
) -> Iterator[tuple[int, int, bytes]]:
    """Yield episode, row and encoded picture of all rows of ``episodes``."""
    kind = check_column(file, path, key)
    index = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    if index < 0 or not (
        pa.types.is_binary(kind.field(index).type)
        or pa.types.is_large_binary(kind.field(index).type)
    ):
        raise UnusableFeature(
            f"{path}: column '{key}' has type {str(kind)[:200]}; expected pictures, a struct of "
            "bytes and path"
        )
    begin = 0
    last = episodes[-1].first_row + episodes[-1].length
    remaining = list(reversed(episodes))
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[key]):
        pictures = batch.column(batch.schema.get_field_index(key)).field(index)
        for row in range(begin, min(begin + batch.num_rows, last)):
            while row >= remaining[-1].first_row + remaining[-1].length:
                remaining.pop()
            episode = remaining[-1]
            if row < episode.first_row:
                continue
            data = pictures[row - begin].as_py()
            if not data:
                raise InputError(
                    f"{path}: column '{key}', row {row} (episode {episode.index}) holds no bytes; "
                    "expected the picture itself: embed the pictures into the parquet files"
                )
            yield episode.index, row, data
        begin += batch.num_rows
        if begin >= last:
            return


def _picture(data: bytes, feature: Feature, source: str) -> np.ndarray:
    height, width, channels = feature.frame_shape
    if data.startswith(_TIFF):
        raise UnusableFeature(
            f"{source} is a TIFF, as depth is stored; expected {' or '.join(_FORMATS)} of 8 bits "
            "per channel"
        )
    with (
        reading(
            f"{source} is no picture that can be decoded",
            f"expected {' or '.join(_FORMATS)}: download or copy the dataset again",
        ),
        # Only plain formats: some that Pillow knows start other programs.
        Image.open(io.BytesIO(data), formats=_FORMATS) as image,
    ):
        # Before it is decoded, so that a few bytes cannot become gigabytes.
        if (image.height, image.width) != (height, width):
            raise InputError(
                f"{source} is a picture of {image.height} x {image.width} (height x width); "
                f"expected {height} x {width}, as meta/info.json says"
            )
        mode = _MODES[channels]
        if feature.is_depth and image.mode == _DEPTH:
            return np.asarray(image, np.uint16).reshape(feature.frame_shape)
        if image.mode == _DEPTH:
            raise UnusableFeature(
                f"{source} is a grey picture of 16 bits; {as_depth_advice(feature.key)}"
            )
        if feature.is_depth:
            raise UnusableFeature(
                f"{source} is a picture of mode {image.mode}, and dataset.depth names it; expected "
                "grey of 16 bits: leave it out of dataset.depth to see it as it is"
            )
        if image.mode not in (mode, "P"):
            raise UnusableFeature(
                f"{source} is a picture of mode {image.mode}; expected {mode}, {channels} "
                "channels of 8 bits, as meta/info.json says"
            )
        return np.asarray(image.convert(mode)).reshape(feature.frame_shape)
