"""Where chunks are computed: in a thread of their own, or at once with a pretended delay."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from lfm_runtime.control.clock import Clock, RealClock, SimulatedClock
from lfm_runtime.control.planning.chunk import Answer, Request

Predict = Callable[[Request], np.ndarray]
"""Returns the actions (n, action_dim) of a request."""

_LOG = logging.getLogger(__name__)
_CLOSE_TIMEOUT = 2.0
_ROUNDING = 1e-9
"""Seconds: a delay of four periods is over at the fourth tick, whatever its last digit."""


class Inference(Protocol):
    """Computes one chunk at a time."""

    @property
    def busy(self) -> bool:
        """Whether a request has not been answered, or its answer not been taken yet."""

    def submit(self, request: Request) -> None:
        """Begin to compute; must not be busy."""

    def take(self, until: float) -> Answer | None:
        """Return the answer if it comes before ``until`` (seconds on the loop's clock)."""

    def close(self) -> None:
        """Stop computing; what is under way is dropped."""


class ThreadedInference:
    """Computes in another thread, beside the loop; the loop never waits longer than it wants to."""

    def __init__(self, predict: Predict, clock: Clock | None = None) -> None:
        self._predict = predict
        self._clock = RealClock() if clock is None else clock
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.busy = False
        # A policy that hangs must not keep the process, and so the robot, from ending.
        self._thread = threading.Thread(target=self._work, name="lfm-inference", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Hand a request to the thread."""
        assert not self.busy
        self.busy = True
        self._requests.put(request)

    def take(self, until: float) -> Answer | None:
        """Return the answer, waiting for it until ``until`` at most."""
        if not self.busy:
            return None
        left = until - self._clock.now()
        try:
            answer = self._answers.get(timeout=left) if left > 0 else self._answers.get_nowait()
        except queue.Empty:
            return None
        self.busy = False
        return answer

    def close(self) -> None:
        """End the thread; one that hangs in a policy is left to the end of the process."""
        self._requests.put(None)
        self._thread.join(_CLOSE_TIMEOUT)
        if self._thread.is_alive():
            _LOG.warning("the policy is still computing; its thread is left behind")

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            self._answers.put(_answer(self._predict, request, self._clock))


class SimulatedInference:
    """Computes at once and pretends that it took a while; for a simulated clock.

    Args:
        predict: computes the actions.
        clock: the loop's.
        delay: seconds that request 0, 1, ... takes, or one number for all.
    """

    def __init__(
        self, predict: Predict, clock: SimulatedClock, delay: float | Callable[[int], float] = 0.0
    ) -> None:
        self._predict = predict
        self._clock = clock
        self._delay = delay
        self._pending: Answer | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is still to be taken."""
        return self._pending is not None

    def submit(self, request: Request) -> None:
        """Compute the answer and keep it back."""
        assert self._pending is None
        delay = self._delay(request.number) if callable(self._delay) else self._delay
        answer = _answer(self._predict, request, self._clock)
        self._pending = replace(answer, answered_at=request.asked_at + delay)

    def take(self, until: float) -> Answer | None:
        """Return the answer if its time comes before ``until``, else wait until then."""
        answer = self._pending
        if answer is None or answer.answered_at > max(until, self._clock.now()) + _ROUNDING:
            self._clock.sleep_until(until)
            return None
        self._clock.sleep_until(answer.answered_at)
        self._pending = None
        return answer

    def close(self) -> None:
        """Drop what is under way."""
        self._pending = None


def _answer(predict: Predict, request: Request, clock: Clock) -> Answer:
    try:
        actions = predict(request)
    except BaseException as error:  # the loop raises it again, after it has stopped the robot
        return Answer(request, None, error, clock.now())
    return Answer(request, actions, None, clock.now())
