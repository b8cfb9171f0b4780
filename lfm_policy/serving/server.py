"""The policy server: openpi's websocket protocol, one policy, many robots."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode

from lfm_policy.serving.access import ApiKeys
from lfm_policy.serving.batcher import Batcher, Prediction, Query
from lfm_policy.serving.connections.front_door import FrontDoor
from lfm_policy.serving.connections.paced_connection import Handshakes, PacedConnection
from lfm_policy.serving.connections.requests import Request, checked_prefix
from lfm_policy.serving.connections.session import Session
from lfm_policy.serving.logs import log_event
from lfm_policy.serving.metrics import ServerMetrics
from lfm_policy.serving.observations import ConnectionHistory
from lfm_policy.serving.options import ServerOptions
from lfm_policy.serving.served import ServedPolicy
from lfm_runtime.policy.chunk_policy import chunk_noise
from lfm_runtime.wire.packing import packb

_OPEN_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_BUFFERED_MESSAGES = 2
_READING_THREADS = 4
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class PolicyServer:
    """Serves one policy until it is told to stop.

    On connection a client gets one message of metadata; then every message of observations is
    answered with ``{"actions": (n_action_steps, action_dim) float32, "server_timing":
    {"infer_ms": ...}}``. A message that is no good gets a text with the reason, and close code
    1011; nobody else notices.

    Args:
        served: the policy.
        options: where to listen, and bounds.
        keys: who may connect; everybody when left out.
        tls: certificate; plain text when left out.
    """

    def __init__(
        self,
        served: ServedPolicy,
        options: ServerOptions,
        *,
        keys: ApiKeys | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._served = served
        self._options = options
        self._keys = ApiKeys() if keys is None else keys
        self._tls = tls
        self._metrics = ServerMetrics()
        self._noise = np.random.default_rng(options.seed)
        self._sessions: set[Session] = set()
        self._handshakes = Handshakes(options.max_connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._retries_accepting = False
        self._metadata = packb(served.metadata() | {"max_message_bytes": self.max_message_bytes})

    @property
    def max_message_bytes(self) -> int:
        """The largest message that is read."""
        return self._options.max_message_bytes or self._served.message_bytes

    async def run(
        self, ready: Callable[[int], None] | None = None, *, signals: bool = False
    ) -> None:
        """Listen and serve until `stop` is called; then end what runs, and return.

        Args:
            ready: called with the port once clients can connect.
            signals: also stop at SIGTERM and SIGINT; a second one ends the process at once.

        Raises:
            OSError: the address cannot be listened on.
        """
        options = self._options
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        others_handler = self._loop.get_exception_handler()
        self._loop.set_exception_handler(self._log_loop_error)
        self._batcher = Batcher(
            self._served.predict,
            self._metrics,
            max_batch=options.max_batch if self._served.batches else 1,
        )
        self._reading = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="lfm-reading")
        try:
            for number in _SIGNALS if signals else ():
                self._loop.add_signal_handler(number, self._stop_at, number.name)
            try:
                server = await self._listen()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                where = f"{options.host}:{options.port}: address already in use"
                raise OSError(
                    error.errno, f"{where}: stop the program that has it, or choose another --port"
                ) from None
            port = int(next(iter(server.sockets)).getsockname()[1])
            log_event("listening", host=options.host, port=port, tls=self._tls is not None)
            if ready is not None:
                ready(port)
            await self._stopped.wait()
            await self._end(server)
        finally:
            if signals:
                self._leave_signals()
            self._batcher.close(options.grace)
            self._reading.shutdown(wait=False, cancel_futures=True)
            if not self._retries_accepting:
                self._loop.set_exception_handler(others_handler)

    def stop(self) -> None:
        """Make `run` end; may be called from another thread."""
        loop, stopped = self._loop, self._stopped
        if loop is not None and stopped is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(stopped.set)

    # -- inside -------------------------------------------------------------------------------

    async def _listen(self) -> Server:
        options = self._options
        front_door = FrontDoor(
            self._keys,
            self._metrics,
            healthy=lambda: not self._batcher.stalled(options.stall_timeout),
            full=self._full,
        )
        return await serve(
            self._handle,
            options.host,
            options.port,
            process_request=front_door,
            # Called, never asked for its type.
            create_connection=partial(PacedConnection, handshakes=self._handshakes),  # type: ignore[arg-type]
            compression=None,
            max_size=self.max_message_bytes,
            max_queue=_BUFFERED_MESSAGES,
            open_timeout=_OPEN_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else _OPEN_SECONDS,
            server_header=None,
        )

    async def _handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, PacedConnection)
        self._handshakes.end(connection)
        # The front door looked before the handshake; others may have come in since.
        if self._full():
            self._metrics.refused.labels("full").inc()
            await connection.close(CloseCode.TRY_AGAIN_LATER, "too many connections")
            return
        policy = self._served.policy
        session = Session(
            connection=connection,
            history=ConnectionHistory(
                policy.spec, policy.n_obs_steps, strict=self._options.strict, task=policy.task
            ),
            infer=self._infer,
            metrics=self._metrics,
            reading=self._reading,
            idle_timeout=self._options.idle_timeout,
            send_timeout=self._options.send_timeout,
        )
        self._sessions.add(session)
        try:
            await session.run(self._metadata)
        finally:
            self._sessions.discard(session)

    def _full(self) -> bool:
        return len(self._sessions) >= self._options.max_connections

    async def _infer(self, obs: dict[str, np.ndarray], request: Request) -> Prediction:
        policy = self._served.policy
        if request.noise is None:
            noise = self._noise.standard_normal(policy.chunk_shape, dtype=np.float32)
        else:
            noise = chunk_noise(*request.noise, policy.chunk_shape)
        prefix = checked_prefix(request.prefix, max_prefix=policy.max_prefix, spec=policy.spec)
        return await self._batcher.predict(Query(obs, noise, prefix))

    async def _end(self, server: Server) -> None:
        """Let the requests under way be answered, and close all connections."""
        log_event("stopping", connections=len(self._sessions))
        server.close(close_connections=False)
        stops = [asyncio.create_task(session.stop()) for session in self._sessions]
        closed = asyncio.create_task(server.wait_closed())
        done, _ = await asyncio.wait({closed}, timeout=self._options.grace)
        if not done:
            log_event("connections cut off", level=logging.WARNING, count=len(self._sessions))
            for connection in server.connections:
                connection.transport.abort()
        await asyncio.gather(*stops, return_exceptions=True)
        await asyncio.wait({closed}, timeout=_CLOSE_SECONDS)
        closed.cancel()
        log_event("stopped")

    def _stop_at(self, name: str) -> None:
        log_event("signal", name=name)
        self._leave_signals()  # the next one does what it does by default
        self.stop()

    def _leave_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def _log_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what nobody waits for; a hundred times a second when no more files can be opened."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            self._retries_accepting = True
            log_event(
                "connections cannot be accepted",
                level=logging.ERROR,
                burst=1,
                reason=os.strerror(error.errno),
                cure="a higher limit of open files (ulimit -n), or fewer --max-connections",
            )
            return
        ending = self._stopped is not None and self._stopped.is_set()
        if ending and self._retries_accepting and isinstance(error, ValueError):
            # asyncio tries once more to accept where it could not, though the socket is closed
            # by then; that may be after the end of `run`.
            return
        log_event(
            "internal error", level=logging.ERROR, error=error, error_text=context.get("message")
        )
