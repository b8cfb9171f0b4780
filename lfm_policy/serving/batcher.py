"""Many robots, one policy call: requests that wait while a call runs make the next call."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lfm_policy.serving.metrics import ServerMetrics

Predict = Callable[[Mapping[str, np.ndarray], np.ndarray, np.ndarray | None], np.ndarray]
"""From observations (B, n_obs_steps, *shape), noise (B, horizon, action_dim) and committed actions
(B, d, action_dim), or None, to actions (B, n_action_steps, action_dim)."""


@dataclass(frozen=True, eq=False)
class Query:
    """What one robot wants actions for, already checked.

    Attributes:
        obs: history by name, each (n_obs_steps, *shape).
        noise: (horizon, action_dim) float32.
        prefix: committed actions (d, action_dim) float32; d is 0 where there are none.
    """

    obs: Mapping[str, np.ndarray]
    noise: np.ndarray
    prefix: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """Actions (n_action_steps, action_dim) float32, and the seconds that the call took."""

    actions: np.ndarray
    seconds: float


@dataclass(frozen=True, eq=False)
class _Waiting:
    query: Query
    since: float
    answer: asyncio.Future[Prediction]


class Batcher:
    """Runs a policy in a thread of its own, so that the network is served meanwhile.

    A request that comes when nothing runs is computed at once; nobody waits for others to come.

    Args:
        predict: the policy; called from one thread only.
        metrics: where sizes and times of calls are counted.
        max_batch: rows of a call at most.
    """

    def __init__(self, predict: Predict, metrics: ServerMetrics, *, max_batch: int) -> None:
        self._predict = predict
        self._metrics = metrics
        self._max_batch = max_batch
        self._requests: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._running_since: float | None = None
        # A call that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="lfm-inference", daemon=True)
        self._thread.start()

    async def predict(self, query: Query) -> Prediction:
        """Return the actions for one robot.

        Raises:
            FloatingPointError: this robot's actions are not finite.
            Exception: whatever else the policy raised for this robot's row.
        """
        answer: asyncio.Future[Prediction] = self._loop.create_future()
        self._requests.put(_Waiting(query, time.monotonic(), answer))
        return await answer

    def stalled(self, seconds: float) -> bool:
        """Whether the call under way has been running for longer than this."""
        since = self._running_since
        return since is not None and time.monotonic() - since > seconds

    def close(self, timeout: float) -> None:
        """End the thread; a call that takes longer than ``timeout`` seconds is left behind."""
        self._requests.put(None)
        self._thread.join(timeout)

    # -- in the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        while (first := self._requests.get()) is not None:
            waiting = [first]
            while len(waiting) < self._max_batch:
                try:
                    following = self._requests.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._requests.put(None)  # the end comes after this call
                    break
                waiting.append(following)
            # Of those who have gone meanwhile, nothing is computed.
            waiting = [request for request in waiting if not request.answer.done()]
            if not waiting:
                continue
            self._running_since = time.monotonic()
            # A call takes prefixes of one length.
            waiting.sort(key=lambda request: len(request.query.prefix))
            lengths = itertools.groupby(waiting, key=lambda request: len(request.query.prefix))
            outcomes = [one for _, group in lengths for one in self._call_each(list(group))]
            self._running_since = None
            try:
                self._loop.call_soon_threadsafe(_deliver, waiting, outcomes)
            except RuntimeError:
                return  # the loop has been closed: nobody waits any more

    def _call_each(self, waiting: Sequence[_Waiting]) -> list[Prediction | Exception]:
        """Call for all at once; if that fails one by one, so that a robot fails by itself."""
        try:
            return list(self._call(waiting))
        except Exception as error:
            if len(waiting) == 1:
                return [error]
        return [outcome for request in waiting for outcome in self._call_each([request])]

    def _call(self, waiting: Sequence[_Waiting]) -> list[Prediction]:
        started = time.monotonic()
        for request in waiting:
            self._metrics.queue_seconds.observe(started - request.since)
        queries = [request.query for request in waiting]
        batch = {key: np.stack([query.obs[key] for query in queries]) for key in queries[0].obs}
        noise = np.stack([query.noise for query in queries])
        prefix = np.stack([query.prefix for query in queries])
        # A copy: the policy may compute the next answers in the same array while these are sent.
        actions = np.array(self._predict(batch, noise, prefix if prefix.shape[1] else None))
        seconds = time.monotonic() - started
        if not np.isfinite(actions).all():
            raise FloatingPointError("the policy's action is not finite at this observation")
        self._metrics.batch_rows.observe(len(waiting))
        self._metrics.infer_seconds.observe(seconds)
        return [Prediction(row, seconds) for row in actions]


def _deliver(waiting: Sequence[_Waiting], outcomes: Sequence[Prediction | Exception]) -> None:
    for request, outcome in zip(waiting, outcomes, strict=True):
        if request.answer.done():
            continue
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome)
