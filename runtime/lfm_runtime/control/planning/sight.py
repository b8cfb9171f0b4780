"""Whether a robot still sees: its observations, good and bad, and when there are too many bad."""

from __future__ import annotations

import logging
from typing import Any

from lfm_runtime.control.result import ControlResult
from lfm_runtime.control.safety import TickHistory
from lfm_runtime.errors import InputError

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
    """Takes the observations of a run into its history.

    Of bad ones the first is logged with its reason, then only their number at every doubling: a
    sensor may fail in every other tick for hours.
    """

    def __init__(
        self, history: TickHistory, result: ControlResult, *, max_bad_observations: int | None
    ) -> None:
        self._history = history
        self._result = result
        self._most = max_bad_observations
        self._bad = Occasions()
        self._in_a_row = 0
        self._said = False
        self._reason = ""

    def take(self, obs: Any) -> bool:
        """Take the observation of a tick, whatever it is; return whether it is good."""
        try:
            self._history.add(obs)
        except InputError as error:
            self._miss(error)
            return False
        if self._said:
            _LOG.warning("observations are good again at step %d", self._result.steps)
        self._said, self._in_a_row = False, 0
        return True

    def refuse(self, error: InputError) -> None:
        """Note that a tick has no observation, because the robot says so itself."""
        self._history.repeat()
        self._miss(error)

    def lost(self) -> bool:
        """Whether too many observations in a row were bad; says so."""
        if self._most is None or self._in_a_row < self._most:
            return False
        _LOG.error(
            "the run ends: %d bad observations in a row, the last: %s", self._in_a_row, self._reason
        )
        return True

    def _miss(self, error: InputError) -> None:
        self._result.bad_observations += 1
        self._in_a_row += 1
        self._reason = str(error)
        if self._bad.again():
            self._said = True
            _LOG.warning(
                "bad observation at step %d%s: %s", self._result.steps, str(self._bad), self._reason
            )
