"""What the control loop needs of a robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np


class Robot(Protocol):
    """Three calls, all from the thread that runs the loop.

    A robot that knows when its task is over may have an attribute ``done`` (bool) too; the loop
    looks at it after every `observe`.
    """

    def observe(self) -> Mapping[str, Any] | None:
        """Return the newest observation by name, or None when there is no new one.

        Every entry has the shape of one frame. It may be incomplete or hold NaN, which sensors
        do: the loop refuses such a frame, counts it and goes on with the chunk that it has.
        """

    def act(self, action: np.ndarray) -> None:
        """Make ``action`` (action_dim,) float32 the target from now on; must not wait for it."""

    def stop(self) -> None:
        """Bring the robot to rest and keep it safe.

        Called exactly once at the end of every run, whatever ended it, and possibly before any
        other call. Nothing is called after it.
        """


@runtime_checkable
class Episodic(Protocol):
    """A robot that knows when its task is over."""

    @property
    def done(self) -> bool:
        """Whether the task is over."""
