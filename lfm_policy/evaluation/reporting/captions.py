"""A strip below every frame of a film: where the episode is, and what it has achieved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lfm_policy.pictures import LIGHT
from lfm_policy.text.numbers import rounded

LEAST_WIDTH = 96
"""Frames that are narrower have no room for words, and get none."""

_BAR = 4
"""Pixels of the bar that grows with the episode."""


@dataclass(frozen=True)
class Captions:
    """What is said below the frames of one episode.

    The strip holds two lines of text, and above them a bar that grows with the episode, each chunk
    darker or lighter than the one before: it changes where chunks join. While the policy is asked
    for a chunk, a dot stands at the end of the first line.

    Attributes:
        steps: environment steps of the whole episode.
        hz: steps per second.
        chunk: steps between two calls of the policy.
        colour: of the bar, as ``#rrggbb``.
        outcome: what is said below the last frame.
    """

    steps: int
    hz: float
    chunk: int
    colour: str
    outcome: str

    def below(self, frames: Sequence[np.ndarray], rewards: Sequence[float]) -> list[np.ndarray]:
        """Return frames with the strip below them.

        Args:
            frames: uint8 (H, W, 3), at the start and after each of the steps.
            rewards: the largest reward until then; not finite where there is none yet.

        Returns:
            uint8 (H + strip, W, 3), above the strip as they were; the sum is even, as H.264 wants.
        """
        if frames[0].shape[1] < LEAST_WIDTH:
            return list(frames)
        return [
            np.concatenate([frame, self._strip(step, reward, *frame.shape[:2])])
            for step, (frame, reward) in enumerate(zip(frames, rewards, strict=True))
        ]

    def _strip(self, step: int, reward: float, height: int, width: int) -> np.ndarray:
        size = max(9, min(width // 20, 20))
        font, line = _font(size), size + 2
        strip = _BAR + 2 * line + 2
        strip += (height + strip) % 2
        picture = Image.new("RGB", (width, strip), LIGHT.surface)
        draw = ImageDraw.Draw(picture)
        for begin in range(0, step, self.chunk):
            end = min(begin + self.chunk, step)
            shade = self.colour if begin // self.chunk % 2 == 0 else _lighter(self.colour)
            left, right = (width * k // self.steps for k in (begin, end))
            draw.rectangle((left, 0, max(right - 1, left), _BAR - 1), fill=shade)
        last = step == self.steps
        gained = f"largest reward {rounded(reward)}" if np.isfinite(reward) else ""
        words = self.outcome if last else gained
        for number, text in enumerate((f"step {step}, {step / self.hz:.1f} s", words)):
            draw.text((4, _BAR + 1 + number * line), text, font=font, fill=LIGHT.ink)
        if step % self.chunk == 0 and not last:
            radius, x, y = 0.35 * size, width - 4 - size / 2, _BAR + 1 + line / 2
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=self.colour)
        return np.asarray(picture)


def _lighter(colour: str) -> tuple[int, ...]:
    """Return a colour half way to white."""
    return tuple((int(colour[i : i + 2], 16) + 255) // 2 for i in (1, 3, 5))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font of the figures, which matplotlib brings along."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), size)
