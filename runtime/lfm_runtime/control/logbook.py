"""What a run hands to its recorder, which must never reach back to the robot."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

import numpy as np

from lfm_runtime.control.guard import RobotGuard
from lfm_runtime.control.recording.recorder import Recorder
from lfm_runtime.control.result import ChunkRecord, StepRecord

_LOG = logging.getLogger("lfm_runtime.control")


class Logbook:
    """Passes records on to a recorder, if there is one.

    The arrays of a record are copies. What a recorder raises is said once and ends the recording
    of the run, not the run; a recorder that hangs is watched as the robot is.
    """

    def __init__(self, recorder: Recorder | None, guard: RobotGuard) -> None:
        self._recorder = recorder
        self._guard = guard
        self._failed = False

    def step(self, record: StepRecord) -> None:
        """Write down an action."""
        obs = {key: np.array(value) for key, value in record.obs.items()}
        self._write("step", replace(record, action=np.array(record.action), obs=obs))

    def chunk(self, record: ChunkRecord) -> None:
        """Write down an answer of the policy."""
        self._write("chunk", replace(record, actions=np.array(record.actions)))

    def end_episode(self) -> None:
        """End the episode of the run."""
        self._failed = False  # what was recorded before the failure is an episode too
        self._write("end_episode")

    def _write(self, name: str, *record: StepRecord | ChunkRecord) -> None:
        if self._recorder is None or self._failed:
            return
        function = partial(getattr(self._recorder, name), *record)
        try:
            if self._guard.stopping:  # nothing moves that a recorder could keep from stopping
                function()
            else:
                self._guard.call("recorder", name, function)
        except Exception as error:
            _LOG.error(
                "recorder.%s() failed, nothing more is recorded of this run: %r", name, error
            )
            self._failed = True
