"""One pass over the frames of a camera: grey levels, repeated and black frames, a few to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lfm_policy.data.images.cache import release
from lfm_policy.data.replay_buffer import ReplayBuffer

SHOWN_FRAMES = 8
"""Frames per episode of the contact sheet, from the first to the last."""

BLACK = 10
"""A frame is black when no value in it is above this, of 255."""

VIDEO_TOLERANCE = 8
"""Equal frames in a row differ by so many of 255 grey levels at most after a video codec has had
them; what moves differs by far more somewhere in the frame."""

_PART_BYTES = 16_000_000
_SHOWN_SIZE = 160
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class CameraFacts:
    """What the frames of one camera show; T' of them were looked at, those of the first episodes.

    Attributes:
        frame_shape: (height, width, channels).
        n_episodes: number of episodes looked at.
        grey_mean: mean grey level (luma) of all pixels, 0 to 255.
        grey_std: standard deviation of the same.
        repeated: (T',) bool: the frame equals the one before it in the same episode, up to a
            tolerance.
        black: (T',) bool: no value is above `BLACK`.
        shown: episode -> (`SHOWN_FRAMES`, height', width', 1 or 3) uint8, made smaller.
    """

    frame_shape: tuple[int, int, int]
    n_episodes: int
    grey_mean: float
    grey_std: float
    repeated: np.ndarray
    black: np.ndarray
    shown: Mapping[int, np.ndarray]

    @property
    def n_frames(self) -> int:
        """Number of frames looked at."""
        return len(self.repeated)

    def to_dict(self) -> dict[str, Any]:
        """Return what there is to say in numbers."""
        named = {"grey_mean": self.grey_mean, "grey_std": self.grey_std}
        return {"frames_read": self.n_frames, **named}


def look_at_camera(
    name: str,
    frames: np.ndarray,
    buffer: ReplayBuffer,
    *,
    episodes_shown: list[int],
    tolerance: int = 0,
    quiet: bool = True,
) -> CameraFacts:
    """Read all frames once, in parts.

    Args:
        name: of the camera, for the progress bar.
        frames: (T', height, width, channels) uint8, usually mapped: those of the first episodes.
        buffer: says where the episodes end.
        episodes_shown: episodes for the contact sheet; those without frames are left out.
        tolerance: largest difference, of 255, between frames that count as equal.
        quiet: no progress bar.
    """
    n_frames = len(frames)
    height, width, channels = (int(size) for size in frames.shape[1:])
    repeated = np.zeros(n_frames, bool)
    black = np.zeros(n_frames, bool)
    total = total_of_squares = 0.0
    size = max(1, _PART_BYTES // (height * width * channels))
    title = f"looking at {name}"
    with tqdm(total=n_frames, desc=title, unit="frame", disable=quiet, delay=1) as bar:
        for begin in range(0, n_frames, size):
            # one frame more: the first is compared with the last of the part before
            first = max(0, begin - 1)
            part = np.asarray(frames[first : begin + size])
            # of uint8, whose plain difference would wrap around
            change = np.maximum(part[1:], part[:-1]) - np.minimum(part[1:], part[:-1])
            largest = change.max(axis=(1, 2, 3), initial=0)
            repeated[first + 1 : first + len(part)] = largest <= tolerance
            part = part[begin - first :]
            black[begin : begin + len(part)] = part.max(axis=(1, 2, 3)) <= BLACK
            grey = _grey(part)
            total += float(grey.sum(dtype=np.float64))
            total_of_squares += float(np.einsum("i,i", grey.ravel(), grey.ravel(), dtype=float))
            release(frames)
            bar.update(len(part))
    repeated[buffer.episode_starts[buffer.episode_starts < n_frames]] = False
    mean = total / (n_frames * height * width)
    variance = total_of_squares / (n_frames * height * width) - mean**2
    n_episodes = int(np.searchsorted(buffer.episode_ends, n_frames, side="right"))
    return CameraFacts(
        frame_shape=(height, width, channels),
        n_episodes=n_episodes,
        grey_mean=mean,
        grey_std=float(np.sqrt(max(variance, 0.0))),
        repeated=repeated,
        black=black,
        shown={e: _to_show(frames, buffer, e) for e in episodes_shown if e < n_episodes},
    )


def _grey(frames: np.ndarray) -> np.ndarray:
    """Return (n, height, width) float32; a fourth channel is passed over."""
    if frames.shape[3] == 1:
        return frames[..., 0].astype(np.float32)
    return frames[..., :3].astype(np.float32) @ _LUMA


def _to_show(frames: np.ndarray, buffer: ReplayBuffer, episode: int) -> np.ndarray:
    """Return frames spread over an episode, at most `_SHOWN_SIZE` wide and high."""
    start, length = buffer.episode_starts[episode], buffer.episode_lengths[episode]
    steps = start + np.linspace(0, length - 1, SHOWN_FRAMES).round().astype(np.int64)
    chosen = np.asarray(frames[steps])[..., :3]
    block = -(-max(chosen.shape[1:3]) // _SHOWN_SIZE)
    height, width = (size // block for size in chosen.shape[1:3])
    if block == 1 or min(height, width) < 1:
        return chosen
    cut = chosen[:, : height * block, : width * block]
    blocks = cut.reshape(len(cut), height, block, width, block, cut.shape[3])
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)
