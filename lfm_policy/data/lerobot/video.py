"""Frames of MP4 videos at given times, decoded once from front to back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from lfm_policy.data.lerobot.episodes import Episode
from lfm_policy.data.lerobot.info import Feature, UnusableFeature
from lfm_policy.errors import InputError, brief

_PART_FRAMES = 256
_PART_BYTES = 2**23
_UINT8 = np.dtype(np.uint8)

_NO_DECODER = (
    av.error.DecoderNotFoundError,
    av.error.PatchWelcomeError,
    av.error.NotImplementedError,
)
"""What FFmpeg raises where it knows a codec but has no (complete) decoder for it."""


@dataclass(frozen=True)
class Clip:
    """The frames of one episode in a video.

    Attributes:
        path: the video.
        times: their times in it in seconds, (n,) float64, increasing.
        episode: its number, for messages.
    """

    path: Path
    times: np.ndarray
    episode: int


def clips_of(
    key: str, episodes: Sequence[Episode], times: Sequence[np.ndarray], fps: float
) -> list[Clip]:
    """Return where the frames of one camera are.

    Args:
        key: the feature.
        episodes: what is read.
        times: for each episode the times of its steps, (length,), from its own beginning.
        fps: frames per second.

    Raises:
        InputError: an episode has steps after its end in the video, which would show the next.
    """
    clips = []
    for episode, own in zip(episodes, times, strict=True):
        span = episode.videos[key]
        if span.start + own[-1] > span.end - 0.5 / fps:
            raise InputError(
                f"{span.path}: episode {episode.index} is over at {span.end:.3f} s "
                f"(videos/{key}/to_timestamp), but its last step is at {span.start + own[-1]:.3f} "
                f"s; expected it a frame period, {1 / fps:.3g} s, earlier: frames are missing"
            )
        clips.append(Clip(span.path, span.start + own, episode.index))
    return clips


def read_clips(
    clips: Sequence[Clip], frame_shape: tuple[int, int, int], fps: float
) -> Iterator[np.ndarray]:
    """Yield the frames of ``clips`` in order, in parts: uint8 (n, height, width, channels).

    For each time it is the frame nearest to it, not more than half a frame period away. Clips
    that follow one another in a video are decoded in one pass.

    Args:
        clips: what is read, of files that exist; clips that follow one another in a file must do
            so in time.
        frame_shape: (height, width, channels), with 1 or 3 channels.
        fps: frames per second.

    Raises:
        InputError: a video is damaged, has frames of another size, or none at a time.
    """
    passes = (list(members) for _, members in groupby(clips, key=lambda clip: clip.path))
    frames = (frame for members in passes for frame in _decode(members, frame_shape, fps))
    return in_parts(frames, frame_shape)


def check_video(path: Path, feature: Feature) -> None:
    """Check, on its first frame, that a video is of a kind and size that a policy can be shown.

    Raises:
        InputError: it is damaged or of another size than announced.
        UnusableFeature: FFmpeg has no decoder for it here, or it shows depth.
    """
    with _open(path, feature.codec) as (container, stream):
        pixels = stream.codec_context.format
        # One channel of more than 8 bits is a depth map.
        if pixels is not None and len(pixels.components) == 1 and pixels.components[0].bits > 8:
            raise UnusableFeature(
                f"{path}: has frames of {pixels.components[0].bits} bits in one channel "
                f"({pixels.name}), as depth is stored; expected 8 bits per channel"
            )
        next(container.decode(stream), None)
        _check_frame_size(path, stream.codec_context, feature.frame_shape)


def frame_count(path: Path) -> int:
    """Return how many frames a video says it has; 0 where it does not.

    Raises:
        InputError: it is damaged.
    """
    with _open(path) as (_, stream):
        return int(stream.frames)


def _decode(
    clips: Sequence[Clip], frame_shape: tuple[int, int, int], fps: float
) -> Iterator[np.ndarray]:
    """Yield the frames of clips in one video."""
    path = clips[0].path
    for before, clip in pairwise(clips):
        if clip.times[0] < before.times[-1]:
            raise InputError(
                f"{path}: episode {clip.episode} begins at {clip.times[0]:.3f} s, before episode "
                f"{before.episode} is over at {before.times[-1]:.3f} s; expected episodes that "
                "follow one another: from_timestamp under meta/episodes is wrong"
            )
    # One for all frames: it keeps its tables.
    reformatter, pixels = VideoReformatter(), "gray" if frame_shape[2] == 1 else "rgb24"
    with _open(path) as (container, stream):
        frames = _timed(path, container, stream)
        earlier, later = None, next(frames, None)
        for clip in clips:
            for step, time in enumerate(clip.times.tolist()):
                while later is not None and later.time < time:
                    earlier, later = later, next(frames, None)
                near = min(
                    (frame for frame in (earlier, later) if frame is not None),
                    key=lambda frame: abs(frame.time - time),
                    default=None,
                )
                if near is None:
                    raise InputError(f"{path}: the video holds no frame at all")
                if abs(near.time - time) > 0.5 / fps:
                    ends = " and the last one: the video is too short" if later is None else ""
                    raise InputError(
                        f"{path}: step {step} of episode {clip.episode} is at {time:.3f} s, but "
                        f"the nearest frame is at {near.time:.3f} s{ends}; expected one at most "
                        f"{0.5 / fps:.3g} s away, half a frame period at {fps:g} fps: the video "
                        "was cut off, was recorded at another rate, or belongs to other data"
                    )
                _check_frame_size(path, near, frame_shape)
                yield reformatter.reformat(near, format=pixels).to_ndarray().reshape(frame_shape)


def _timed(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    for frame in container.decode(stream):
        if frame.pts is None or frame.time is None:
            raise InputError(f"{path}: a frame of the video has no time; encode it again")
        if frame.is_corrupt:
            raise InputError(
                f"{path}: the frame at {frame.time:.3f} s is damaged; download or copy the dataset "
                "again"
            )
        yield frame


@contextlib.contextmanager
def _open(path: Path, codec: str = "") -> Iterator[tuple[Any, Any]]:
    """Open a video; every failure of the decoder until it is closed becomes an InputError.

    ``codec`` is what info.json calls its codec, for messages.
    """
    named = f" ({codec}, as meta/info.json says)" if codec else ""
    undecodable = UnusableFeature(
        f"{path}: FFmpeg has no decoder here for the codec of the video{named}: encode the videos "
        "again, as H.264 say, or leave them out"
    )
    try:
        # By name of the format: a playlist called .mp4 would make FFmpeg open other files.
        with av.open(str(path.absolute()), format="mp4") as container:
            if not container.streams.video:
                raise InputError(f"{path}: there is no video in this file")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise undecodable
            stream.thread_type = "AUTO"
            yield container, stream
    except InputError:
        raise
    except _NO_DECODER:
        raise undecodable from None
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise InputError(
            f"{path}: the video cannot be decoded ({brief(error)}): it is cut off, damaged or of "
            "a kind that FFmpeg does not know; download or copy the dataset again"
        ) from error


def _check_frame_size(path: Path, frame: Any, frame_shape: tuple[int, int, int]) -> None:
    if (frame.height, frame.width) != frame_shape[:2]:
        raise InputError(
            f"{path}: has frames of {frame.height} x {frame.width} (height x width); expected "
            f"{frame_shape[0]} x {frame_shape[1]}, as meta/info.json says"
        )


def in_parts(
    frames: Iterable[np.ndarray],
    frame_shape: tuple[int, int, int],
    dtype: np.dtype = _UINT8,
) -> Iterator[np.ndarray]:
    """Yield frames, each ``frame_shape`` of ``dtype``, as arrays (n, *frame_shape).

    A part has at most 256 frames and, unless one frame alone is larger, 8 MiB, which stay in the
    caches of a CPU until they are kept.
    """
    length = max(1, min(_PART_FRAMES, _PART_BYTES // math.prod(frame_shape)))
    part, n = np.empty((length, *frame_shape), dtype), 0
    for frame in frames:
        part[n] = frame
        n += 1
        if n == length:
            yield part
            # A new one: whoever took the last part may keep it.
            part, n = np.empty((length, *frame_shape), dtype), 0
    if n:
        yield part[:n]
