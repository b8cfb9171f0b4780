"""One run of the control loop: what happens in every tick."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lfm_runtime.control.clock import Clock
from lfm_runtime.control.guard import RobotGuard
from lfm_runtime.control.logbook import Logbook
from lfm_runtime.control.options import ControlOptions
from lfm_runtime.control.planning.chunk import Chunk, Request
from lfm_runtime.control.planning.first_move import FirstMove
from lfm_runtime.control.planning.inference import Inference
from lfm_runtime.control.planning.joining import Joining
from lfm_runtime.control.planning.sight import Occasions, Sight
from lfm_runtime.control.recording.also import AlsoRecorded
from lfm_runtime.control.result import (
    APPROACHED,
    CONTINUED,
    HELD,
    PLANNED,
    ChunkRecord,
    ControlResult,
    StepRecord,
)
from lfm_runtime.control.safety import ActionLimits
from lfm_runtime.errors import InputError
from lfm_runtime.wire.server_metadata import PolicyChangedError

_LOG = logging.getLogger("lfm_runtime.control")
_ASK_AGAIN = 1.0
"""Seconds between two questions to a server that serves another policy."""


@dataclass(eq=False)
class ControlRun:
    """The state of a run between two ticks.

    ``step`` counts planned actions that were executed; it is what chunks are counted in. While the
    robot stands still it does not change, so that nothing of a chunk is skipped then.
    """

    robot: RobotGuard
    inference: Inference
    joining: Joining
    limits: ActionLimits
    clock: Clock
    logbook: Logbook
    options: ControlOptions
    result: ControlResult
    sight: Sight
    also: AlsoRecorded
    period: float
    execute: int
    lead: int
    max_prefix: int
    max_staleness: float

    def __post_init__(self) -> None:
        self._began = self.clock.now()
        self._asked = 0
        self._last: np.ndarray | None = None
        self._missing_since: int | None = None
        self._misses, self._outages, self._stale = Occasions(), Occasions(), Occasions()
        self._unreachable = self._changed = self._miss_said = False
        self._ask_from = self._began
        self._reason: str | None = None
        seconds = self.options.first_move
        self._first_move = None if seconds is None else FirstMove(math.ceil(seconds / self.period))
        self._observed_from = -math.inf

    def tick(self) -> str | None:
        """Observe, ask, take, act; return why the run is over, or None."""
        self.result.ticks += 1
        observed = self.clock.now()
        valid = self._observe()
        if self.robot.done():
            return "done"
        if self.sight.lost():
            return "bad observations"
        self._take(observed)
        self._forget(observed)
        if valid and not self.inference.busy and self._left() <= self.lead:
            self._ask(observed)
            self._take(observed)
        if self._left() <= 0:
            self._take(observed + self.options.patience * self.period)
        return self._reason or self._act(observed, valid)

    def _observe(self) -> bool:
        """Take the tick's observation into the history; return whether it is good."""
        try:
            obs = self.robot.observe()
        except InputError as error:  # a robot that looked at its data itself
            self.sight.refuse(error)
            return False

        def take() -> bool:
            if obs is not None and (error := self.also.lacks_position(obs)) is not None:
                self.sight.refuse(error)
                return False
            good = self.sight.take(obs)
            if good and obs is not None:
                self.also.take(obs)  # of the same tick as what the policy sees
            return good

        # Watched too: some observations are fetched only when they are looked at.
        return self.robot.call("robot", "observe", take)

    def _left(self) -> int:
        """Return how many actions of the newest chunk are to be executed before its deadline."""
        newest = self.joining.newest
        if newest is None:
            return 0
        return min(self.execute, len(newest)) - (self.result.steps - newest.start)

    # -- chunks -------------------------------------------------------------------------------

    def _ask(self, observed: float) -> None:
        if observed < self._ask_from or self._reason:
            return
        step = self.result.steps
        prefix: list[np.ndarray] = []
        if self.joining.uses_prefix:
            # No more than are surely executed: those before the deadline.
            n = min(self.lead, self.max_prefix, max(self._left(), 0))
            prefix = self.joining.upcoming(step, n)
        action_dim = self.limits.action_dim
        self.inference.submit(
            Request(
                number=self._asked,
                step=step,
                asked_at=observed,
                obs=self.sight.stacked(),
                prefix=np.array(prefix, dtype=self.limits.dtype).reshape(len(prefix), action_dim),
            )
        )
        self._asked += 1

    def _take(self, until: float) -> None:
        """Take the answer if it is there, or comes before ``until``."""
        inference = self.inference
        answer = self.robot.call(
            "inference",
            "take",
            lambda: inference.take(until),
            extra=max(until - self.clock.now(), 0.0),
        )
        if answer is None:
            return
        if answer.error is not None:
            self._fail(answer.error)
            return
        assert answer.actions is not None
        if self._changed:
            _LOG.warning("the policy is back; going on at step %d", self.result.steps)
        self._unreachable = self._changed = False
        request, taken = answer.request, self.clock.now()
        self.result.delays.append(self.result.steps - request.step)
        self.result.seconds.append(answer.answered_at - request.asked_at)
        # A copy: whoever computes chunks may do so in the same array again and again.
        actions = np.array(answer.actions, dtype=self.limits.dtype)
        self.joining.add(Chunk(request.number, request.step, actions, request.asked_at))
        self._forget(taken)  # a slow answer may be too old already
        age = taken - request.asked_at
        if age > self.max_staleness and self._stale.again():
            _LOG.warning(
                "a chunk came %.3g s after its observation and is not used: max_staleness is %.3g "
                "s; allow more, or let the policy take fewer evaluations%s",
                age,
                self.max_staleness,
                str(self._stale),
            )
        self.logbook.chunk(
            ChunkRecord(
                number=request.number,
                start=request.step,
                consumed=self.result.steps - request.step,
                asked_at=request.asked_at - self._began,
                answered_at=answer.answered_at - self._began,
                taken_at=taken - self._began,
                prefix=len(request.prefix),
                actions=actions,
            )
        )

    def _forget(self, now: float) -> None:
        """Drop chunks that are too old, or from before the end of the first move."""
        self.joining.forget(observed_before=max(now - self.max_staleness, self._observed_from))

    def _fail(self, error: BaseException) -> None:
        """Go on without an answer if the policy cannot be reached; else end the run."""
        if isinstance(error, PolicyChangedError):
            return self._take_change(error)
        if not isinstance(error, (ConnectionError, TimeoutError)):
            raise error
        self.result.failed_calls += 1
        if not self._unreachable and self._outages.again():
            _LOG.warning(
                "the policy cannot be reached (%s); asking again%s", error, str(self._outages)
            )
        self._unreachable = True

    def _take_change(self, error: PolicyChangedError) -> None:
        """End the run, or wait until the policy that it began with is back."""
        if self.options.on_policy_change == "stop":
            self._reason = "policy changed"
            _LOG.error("the run ends: %s", error)
        elif not self._changed:
            _LOG.error("holding until the old policy is back: %s", error)
        self.result.policy_changes += not self._changed
        self._changed = True
        self._ask_from = self.clock.now() + _ASK_AGAIN

    # -- actions ------------------------------------------------------------------------------

    def _act(self, observed: float, valid: bool) -> str | None:
        planned = self.joining.action(self.result.steps)
        if self._first_move is not None and self._approach(planned, observed, valid):
            return None
        if planned is not None and self._left() > 0:
            self._on_time()
            self._execute_action(planned, PLANNED, observed, valid)
        elif self._last is None:
            self.result.waiting += 1
        else:
            # Nothing more of the old chunk's rest while the server serves another policy.
            on_miss = "hold" if self._changed else self.options.on_miss
            self._missed(on_miss)
            if on_miss == "stop":
                return "deadline"
            if on_miss == "continue" and planned is not None:
                self._execute_action(planned, CONTINUED, observed, valid)
            else:
                hold = self.limits.hold_action
                self._execute_action(self._last if hold is None else hold, HELD, observed, valid)
        return None

    def _approach(self, planned: np.ndarray | None, observed: float, valid: bool) -> bool:
        """Do a tick of the first move; return False when it is over, or cannot begin yet."""
        move = self._first_move
        assert move is not None
        if move.goal is None:
            if planned is None:
                return False
            move.begin(self._position(), self.limits.apply(planned, None)[0])
        elif move.arrived and planned is not None:
            self._first_move = None
            return False
        told = self._execute_action(move.next(), APPROACHED, observed, valid)
        if not move.arrived and move.note(told):
            # From here on the policy sees where it led.
            self._observed_from = math.nextafter(observed, math.inf)
            self._forget(observed)
        return True

    def _position(self) -> np.ndarray:
        """Return where the robot is, (action_dim,), from the newest good observation."""
        key = self.options.position_key or ""
        position = {**self.also.values, **self.sight.frames[-1]}[key]
        if position.shape != (self.limits.action_dim,):
            raise InputError(
                f"position_key is '{key}', which has shape {position.shape}, expected "
                f"({self.limits.action_dim},)"
            )
        return position

    def _missed(self, on_miss: str) -> None:
        if self._missing_since is None:
            self._missing_since = self.result.ticks
            self.result.deadline_misses += 1
            self._miss_said = self._misses.again()
            if self._miss_said:
                step, times = self.result.steps, str(self._misses)
                _LOG.warning("deadline missed at step %d: %s%s", step, on_miss, times)

    def _on_time(self) -> None:
        if self._missing_since is not None and self._miss_said:
            _LOG.warning(
                "a chunk came %d ticks late, going on at step %d",
                self.result.ticks - self._missing_since,
                self.result.steps,
            )
        self._missing_since = None

    def _execute_action(
        self, action: np.ndarray, kind: int, observed: float, valid: bool
    ) -> np.ndarray:
        """Tell the robot an action, as far as the limits allow; return what it was told."""
        frame = self.sight.frames[-1]  # no chunk was ever asked for without one
        previous = self._last
        if previous is None and self.options.position_key is not None:
            previous = self._position()
        allowed, limited = self.limits.apply(action, previous)
        self._last = allowed
        result, newest = self.result, self.joining.newest
        record = StepRecord(
            time=self.clock.now() - self._began,
            observed=observed - self._began,
            action=allowed,
            obs={**frame, **self.also.values},
            kind=kind,
            step=result.steps,
            chunk=-1 if newest is None else newest.number,
            limited=limited,
            obs_valid=valid,
        )
        try:
            if self.options.dry_run:
                told = _shown(allowed, self.robot.action_names)
                _LOG.info("step %d: would be told %s", result.steps, told)
            else:
                self.robot.act(allowed)
        except BaseException:
            # It may have reached the robot all the same; somebody will want to know.
            self.logbook.step(replace(record, failed=True))
            raise
        self.logbook.step(record)
        result.limited += limited
        result.held += kind == HELD
        result.continued += kind == CONTINUED
        result.approached += kind == APPROACHED
        result.steps += kind in (PLANNED, CONTINUED)
        return allowed


def _shown(action: np.ndarray, names: Sequence[str]) -> str:
    if len(names) == len(action):
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(names, action, strict=True))
    return np.array2string(action, precision=4, suppress_small=True, max_line_width=1000)
