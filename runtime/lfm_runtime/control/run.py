"""One run of the control loop: what happens in every tick."""

from __future__ import annotations

import logging

import numpy as np

from lfm_runtime.control.chunk import Answer, Chunk, Request
from lfm_runtime.control.clock import Clock
from lfm_runtime.control.inference import Inference
from lfm_runtime.control.joining import Joining
from lfm_runtime.control.options import ControlOptions
from lfm_runtime.control.recording import Recorder
from lfm_runtime.control.result import (
    CONTINUED,
    HELD,
    PLANNED,
    ChunkRecord,
    ControlResult,
    StepRecord,
)
from lfm_runtime.control.robot import Episodic, Robot
from lfm_runtime.control.safety import ActionLimits, TickHistory
from lfm_runtime.errors import InputError

_LOG = logging.getLogger("lfm_runtime.control")


class Run:
    """The state of a run between two ticks.

    ``step`` counts planned actions that were executed; it is what chunks are counted in. While the
    robot stands still it does not change, so that nothing of a chunk is skipped then.
    """

    def __init__(
        self,
        robot: Robot,
        inference: Inference,
        joining: Joining,
        limits: ActionLimits,
        history: TickHistory,
        clock: Clock,
        recorder: Recorder | None,
        options: ControlOptions,
        *,
        period: float,
        execute: int,
        lead: int,
        max_prefix: int,
        max_staleness: float,
    ) -> None:
        self.result = ControlResult()
        self._robot = robot
        self._inference = inference
        self._joining = joining
        self._limits = limits
        self._history = history
        self._clock = clock
        self._recorder = recorder
        self._options = options
        self._period = period
        self._execute = execute
        self._lead = lead
        self._max_prefix = max_prefix
        self._max_staleness = max_staleness
        self._began = clock.now()
        self._asked = 0
        self._last: np.ndarray | None = None
        self._missing_since: int | None = None
        self._unreachable = False
        self._blind = False

    def tick(self) -> str | None:
        """Observe, ask, take, act; return why the run is over, or None."""
        self.result.ticks += 1
        observed = self._clock.now()
        valid = self._observe()
        if isinstance(self._robot, Episodic) and self._robot.done:
            return "done"
        self._take(observed)
        self._joining.forget(observed_before=observed - self._max_staleness)
        if valid and not self._inference.busy and self._left() <= self._lead:
            self._ask(observed)
            self._take(observed)
        if self._left() <= 0:
            self._take(observed + self._options.patience * self._period)
        return self._act(observed, valid)

    def _observe(self) -> bool:
        """Take the tick's observation into the history; return whether it is good."""
        try:
            self._history.add(self._robot.observe())
        except InputError as error:
            self.result.bad_observations += 1
            if not self._blind:
                _LOG.warning("bad observation at step %d: %s", self.result.steps, error)
            self._blind = True
            return False
        if self._blind:
            _LOG.warning("observations are good again at step %d", self.result.steps)
        self._blind = False
        return True

    def _left(self) -> int:
        """Return how many actions of the newest chunk are to be executed before its deadline."""
        newest = self._joining.newest
        if newest is None:
            return 0
        return min(self._execute, len(newest)) - (self.result.steps - newest.start)

    # -- chunks -------------------------------------------------------------------------------

    def _ask(self, observed: float) -> None:
        step = self.result.steps
        prefix: list[np.ndarray] = []
        if self._joining.uses_prefix:
            # No more than are surely executed: those before the deadline.
            n = min(self._lead, self._max_prefix, max(self._left(), 0))
            prefix = self._joining.upcoming(step, n)
        action_dim = self._limits.action_dim
        self._inference.submit(
            Request(
                number=self._asked,
                step=step,
                asked_at=observed,
                obs=self._history.stacked(),
                prefix=np.array(prefix, dtype=np.float32).reshape(len(prefix), action_dim),
            )
        )
        self._asked += 1

    def _take(self, until: float) -> None:
        """Take the answer if it is there, or comes before ``until``."""
        answer = self._inference.take(until)
        if answer is None:
            return
        if answer.error is not None:
            self._fail(answer.error)
            return
        assert answer.actions is not None
        self._unreachable = False
        request, taken = answer.request, self._clock.now()
        self.result.delays.append(self.result.steps - request.step)
        self.result.seconds.append(answer.answered_at - request.asked_at)
        self._joining.add(
            Chunk(request.number, request.step, answer.actions, observed_at=request.asked_at)
        )
        # A slow answer may be too old already.
        self._joining.forget(observed_before=taken - self._max_staleness)
        self._record_chunk(answer, taken)

    def _fail(self, error: BaseException) -> None:
        """Go on without an answer if the policy cannot be reached; else end the run."""
        if not isinstance(error, (ConnectionError, TimeoutError)):
            raise error
        self.result.failed_calls += 1
        if not self._unreachable:
            _LOG.warning("the policy cannot be reached (%s); asking again", error)
        self._unreachable = True

    # -- actions ------------------------------------------------------------------------------

    def _act(self, observed: float, valid: bool) -> str | None:
        planned = self._joining.action(self.result.steps)
        if planned is not None and self._left() > 0:
            self._on_time()
            self._execute_action(planned, PLANNED, observed, valid)
        elif self._last is None:
            self.result.waiting += 1
        else:
            self._missed()
            if self._options.on_miss == "stop":
                return "deadline"
            if self._options.on_miss == "continue" and planned is not None:
                self._execute_action(planned, CONTINUED, observed, valid)
            else:
                self._execute_action(self._hold_action(), HELD, observed, valid)
        return None

    def _missed(self) -> None:
        if self._missing_since is None:
            self._missing_since = self.result.ticks
            self.result.deadline_misses += 1
            _LOG.warning("deadline missed at step %d: %s", self.result.steps, self._options.on_miss)

    def _on_time(self) -> None:
        if self._missing_since is not None:
            _LOG.warning(
                "a chunk came %d ticks late, going on at step %d",
                self.result.ticks - self._missing_since,
                self.result.steps,
            )
            self._missing_since = None

    def _hold_action(self) -> np.ndarray:
        if self._options.hold_action is not None:
            return np.asarray(self._options.hold_action, dtype=np.float32)
        assert self._last is not None
        return self._last

    def _execute_action(self, action: np.ndarray, kind: int, observed: float, valid: bool) -> None:
        frame = self._history.newest
        assert frame is not None  # no chunk was ever asked for without one
        previous = self._last
        if previous is None and self._options.position_key is not None:
            previous = frame[self._options.position_key]
        allowed, limited = self._limits.apply(action, previous)
        self._robot.act(allowed)
        self._last = allowed
        result, newest = self.result, self._joining.newest
        if self._recorder is not None:
            self._recorder.step(
                StepRecord(
                    time=self._clock.now() - self._began,
                    observed=observed - self._began,
                    action=allowed,
                    obs=frame,
                    kind=kind,
                    step=result.steps,
                    chunk=-1 if newest is None else newest.number,
                    limited=limited,
                    obs_valid=valid,
                )
            )
        result.limited += limited
        result.held += kind == HELD
        result.continued += kind == CONTINUED
        result.steps += kind != HELD

    def _record_chunk(self, answer: Answer, taken: float) -> None:
        if self._recorder is None or answer.actions is None:
            return
        request = answer.request
        self._recorder.chunk(
            ChunkRecord(
                number=request.number,
                start=request.step,
                consumed=self.result.steps - request.step,
                asked_at=request.asked_at - self._began,
                answered_at=answer.answered_at - self._began,
                taken_at=taken - self._began,
                prefix=len(request.prefix),
                actions=answer.actions,
            )
        )
