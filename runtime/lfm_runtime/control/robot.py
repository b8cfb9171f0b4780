"""What the control loop needs of a robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class Robot(Protocol):
    """Three calls, all from the thread that runs the loop; but see `stop`::

        class MyArm:
            def observe(self):
                return {"joints": self.arm.read()}

            def act(self, action):
                self.arm.set_targets(action)

            def stop(self):
                self.arm.hold()

    A robot that knows when its task is over may have an attribute ``done`` (bool) too; the loop
    looks at it after every `observe`. A robot of which nothing is real may have an attribute
    ``simulated = True``: the loop then does not insist on ``max_bad_observations``. One that says
    what the numbers of an action are, in ``action_names``, is told them by name in a dry run. One
    that has to be connected may have a method ``begin_run()``: it is called once, before all
    others, when whatever comes, a signal or an exception, already ends in ``stop``; it may take a
    minute more than the others.
    """

    def observe(self) -> Mapping[str, Any] | None:
        """Return the newest observation by name, or None when there is no new one.

        Every entry has the shape of one frame. It may be incomplete or hold NaN, which sensors
        do: the loop refuses such a frame, or whatever else is no observation, counts it and goes
        on with the chunk that it has. InputError means the same; every other exception ends the
        run. The arrays stay the robot's: the loop copies them at once.
        """

    def act(self, action: np.ndarray) -> None:
        """Make ``action`` (action_dim,) the target from now on; must not wait for it.

        float32, or float64 where the policy's ``spec.dtype("action")`` says so.

        The array is the robot's to keep and to change.
        """

    def stop(self) -> None:
        """Bring the robot to rest and keep it safe.

        Called exactly once at the end of every run, whatever ended it, and possibly before any
        other call. Nothing is called after it, and no signal interrupts it. When `observe` or
        `act` hangs, it is called from another thread (a watchdog) while that call is still under
        way; so it should not wait for what such a call holds.
        """
