"""Encode camera images as videos that can be read from any frame, and measure what that lost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from lfm_policy.data.images.cache import release
from lfm_policy.errors import InputError

DEFAULT_CRF = 18
"""Quality of H.264: 0 loses least, 51 most; at 18 people see no difference."""

KEYFRAME_EVERY = 2
"""As LeRobot does: training reads frames in any order, and decoding starts at a keyframe."""

_RELEASE_EVERY = 256
"""Frames after which mapped images are given back to the system."""


def video_codec() -> str:
    """Return the encoder that is used: ``libx264`` where PyAV has it, else ``mpeg4``."""
    try:
        av.codec.Codec("libx264", "w")
    except ValueError:  # what UnknownCodecError is
        return "mpeg4"
    return "libx264"


class VideoWriter:
    """Writes one MP4 file, frame by frame.

    Attributes:
        codec: name of the format, ``h264`` or ``mpeg4``.
        pixel_format: ``yuv420p``, as every player reads it; ``yuv444p`` where height or width is
            odd, which H.264 takes no other way.
    """

    def __init__(
        self,
        path: Path,
        *,
        height: int,
        width: int,
        fps: float,
        crf: int = DEFAULT_CRF,
        keyframe_every: int | None = KEYFRAME_EVERY,
    ) -> None:
        """Open the file.

        Args:
            path: its name ends with the format, ``.mp4``.
            height: of all frames, pixels.
            width: of all frames, pixels.
            fps: frames per second.
            crf: quality, see `DEFAULT_CRF`.
            keyframe_every: frames from one that can be decoded alone to the next; None: as the
                encoder likes, which is smaller and meant for watching only.

        Raises:
            InputError: the encoder takes no such images or rate.
        """
        encoder = video_codec()
        odd = height % 2 or width % 2
        self.codec = "h264" if encoder == "libx264" else encoder
        self.pixel_format = "yuv444p" if odd and encoder == "libx264" else "yuv420p"
        self._path = path
        self._container = av.open(str(path), "w")
        try:
            rate = Fraction(fps).limit_denominator(10_000)
            self._stream = self._container.add_stream(encoder, rate=rate)
            self._time_base = 1 / rate
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = self.pixel_format
            options = {"g": str(keyframe_every), "bf": "0"} if keyframe_every else {}
            quality = {"crf": str(crf)} if encoder == "libx264" else {"qmin": "2", "qmax": "2"}
            self._stream.options = options | quality
            self._stream.codec_context.open()
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            self._container.close()
            raise InputError(
                f"{path.name}: the encoder {encoder} does not take images of {width} x {height} "
                f"at {fps:g} frames per second ({error})"
            ) from None
        self._n_frames = 0

    def write(self, frames: Iterable[np.ndarray]) -> None:
        """Append RGB frames, uint8 (height, width, 3)."""
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            image.pts = self._n_frames
            image.time_base = self._time_base
            self._container.mux(self._stream.encode(image))
            self._n_frames += 1

    def close(self) -> None:
        """Write what the encoder still holds and close the file."""
        try:
            self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._container.close()


@dataclass(frozen=True)
class ImageLoss:
    """How far decoded images are from the ones that were encoded, over all of them.

    Attributes:
        mean: mean absolute difference, in grey levels of 0 to 255.
        largest: largest absolute difference, in grey levels.
        psnr: peak signal-to-noise ratio in dB; infinite where nothing was lost.
    """

    mean: float
    largest: int
    psnr: float


def measure_loss(paths: Iterable[Path], images: np.ndarray) -> ImageLoss:
    """Decode videos and compare them with the images they were made of.

    Args:
        paths: video files that together hold one frame per image, in order.
        images: uint8 (T, height, width, 3), read one by one.

    Raises:
        RuntimeError: they hold another number of frames.
    """
    step = total = squared = largest = 0
    reformatter = VideoReformatter()  # one for all frames: it keeps its tables
    for path in paths:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                if step < len(images):
                    decoded = reformatter.reformat(frame, format="rgb24").to_ndarray()
                    difference = np.abs(decoded.astype(np.int32) - images[step])
                    total += int(difference.sum())
                    squared += int(np.square(difference).sum(dtype=np.int64))
                    largest = max(largest, int(difference.max()))
                step += 1
                if step % _RELEASE_EVERY == 0:
                    release(images)
    if step != len(images):
        raise RuntimeError(f"the videos hold {step} frames, but {len(images)} were written")
    psnr = 10 * math.log10(255**2 * images.size / squared) if squared else math.inf
    return ImageLoss(mean=total / images.size, largest=largest, psnr=psnr)
