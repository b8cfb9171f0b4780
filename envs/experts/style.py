"""How one demonstrator behaves in one episode: drawn at random, so that no two are alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Style:
    """Habits of a demonstrator during one episode.

    Attributes:
        speed: largest part of the controller's range that an action uses, 0 to 1.
        gain: how strongly an action answers to the distance that remains.
        noise: standard deviation of the noise on actions, in their units of -1 to 1.
        pause: probability of hesitating after a movement.
        looseness: factor on the distances at which a movement counts as done.
        haste: factor below 1 on the height of the detours over objects.
    """

    speed: float
    gain: float
    noise: float
    pause: float
    looseness: float
    haste: float

    @classmethod
    def draw(cls, generator: np.random.Generator) -> Style:
        """Return the habits of a random demonstrator."""
        return cls(
            speed=float(generator.uniform(0.6, 1.0)),
            gain=float(generator.uniform(1.0, 1.6)),
            noise=float(generator.uniform(0.02, 0.12)),
            pause=float(generator.uniform(0.0, 0.25)),
            looseness=float(generator.uniform(0.8, 1.5)),
            haste=float(generator.uniform(0.6, 1.2)),
        )
