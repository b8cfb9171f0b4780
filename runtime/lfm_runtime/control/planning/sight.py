"""What a robot sees: its last good observations, and when there are too many bad ones."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from lfm_runtime.control.result import ControlResult
from lfm_runtime.errors import InputError
from lfm_runtime.policy.observations import checked_frames, remember, stacked
from lfm_runtime.policy.spec import TASK_KEY, DataSpec
from lfm_runtime.policy.tasks import told

_LOG = logging.getLogger("lfm_runtime.control")


class Occasions:
    """Counts what may happen in every tick; worth a line are the 1st, 2nd, 4th, 8th, ... time."""

    def __init__(self) -> None:
        self.count = 0

    def again(self) -> bool:
        """Count one more; return whether it is worth a line."""
        self.count += 1
        return self.count & (self.count - 1) == 0

    def __str__(self) -> str:
        """Return what to add to the line: nothing the first time."""
        return "" if self.count < 2 else f" ({self.count} times so far)"


class Sight:
    """The last frames that were complete and finite, one per tick.

    For a tick without one the frame before stands, so that frames stay one tick apart. Of bad
    observations the first is logged with its reason, then only their number at every doubling: a
    sensor may fail in every other tick for hours.

    Attributes:
        frames: ``n_obs_steps`` of them, oldest first; empty before the first good one.
    """

    def __init__(
        self,
        spec: DataSpec,
        n_obs_steps: int,
        result: ControlResult,
        *,
        max_bad_observations: int | None,
        task: str | None = None,
    ) -> None:
        self.frames: deque[dict[str, np.ndarray]] = deque(maxlen=n_obs_steps)
        self._spec, self._task = spec, task
        self._result = result
        self._most = max_bad_observations
        self._bad = Occasions()
        self._in_a_row = 0
        self._said = False
        self._reason = ""

    def stacked(self) -> dict[str, np.ndarray]:
        """Return the history by name, (n_obs_steps, *shape), oldest first."""
        return stacked(self.frames)

    def take(self, obs: Any) -> bool:
        """Take the observation of a tick, whatever a robot returned; return whether it is good.

        Raises:
            InputError: the first whole one does not say which of several tasks is to be done, and
                nobody else does.
        """
        try:
            if obs is None:
                raise InputError("there is no new observation")
            remember(self.frames, checked_frames(told(obs, self._spec, self._task), self._spec))
        except InputError as error:
            if not self.frames and self._lacks_only_the_task(obs):
                raise  # no later one will say it either
            self.refuse(error)
            return False
        except Exception as error:
            # Whatever the objects of a robot do when they are looked at: it is bad data.
            text = f"the observation cannot be read: {type(error).__name__}: {error}"
            self.refuse(InputError(text))
            return False
        if self._said:
            _LOG.warning("observations are good again at step %d", self._result.steps)
        self._said, self._in_a_row = False, 0
        return True

    def _lacks_only_the_task(self, obs: Any) -> bool:
        spec = self._spec
        known = not spec.tasks or self._task is not None
        if known or not isinstance(obs, Mapping) or TASK_KEY in obs:
            return False
        with contextlib.suppress(Exception):  # a bad one in other ways, which `refuse` takes
            checked_frames(obs, spec.untold())
            return True
        return False

    def refuse(self, error: InputError) -> None:
        """Note that a tick has no good observation."""
        if self.frames:
            self.frames.append(self.frames[-1])
        self._result.bad_observations += 1
        self._in_a_row += 1
        self._reason = str(error)
        if self._bad.again():
            self._said = True
            _LOG.warning(
                "bad observation at step %d%s: %s", self._result.steps, str(self._bad), self._reason
            )

    def lost(self) -> bool:
        """Whether too many observations in a row were bad; says so."""
        if self._most is None or self._in_a_row < self._most:
            return False
        _LOG.error(
            "the run ends: %d bad observations in a row, the last: %s", self._in_a_row, self._reason
        )
        return True
