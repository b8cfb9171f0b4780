"""One robot's connection, from its metadata to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from lfm_policy.errors import InputError
from lfm_policy.serving.batcher import Prediction
from lfm_policy.serving.connections.requests import Request, read_request
from lfm_policy.serving.logs import log_event
from lfm_policy.serving.metrics import ServerMetrics
from lfm_policy.serving.observations import ConnectionHistory
from lfm_runtime.wire.packing import packb
from lfm_runtime.wire.protocol import RESET

MAXIMUM_ERROR_TEXT = 2_000
MAXIMUM_FRAGMENTS = 1_024
SMALL_BYTES = 4_096
"""Up to here reading a message takes less time than handing it to another thread."""

_BROKEN_RULES = (
    CloseCode.PROTOCOL_ERROR,
    CloseCode.INVALID_DATA,
    CloseCode.MESSAGE_TOO_BIG,
)

Infer = Callable[[dict[str, np.ndarray], Request], Awaitable[Prediction]]
"""From a history (n_obs_steps, *shape) by name and what was asked with it to the actions."""

T = TypeVar("T")


class Session:
    """Answers the messages of one client, one after the other.

    Args:
        connection: open websocket.
        history: empty, of this connection alone.
        infer: computes actions.
        metrics: where it is counted.
        reading: threads that read large messages, while the event loop serves other robots.
        idle_timeout: seconds to wait for a whole message.
        send_timeout: seconds to wait for a client that does not read.
    """

    def __init__(
        self,
        connection: ServerConnection,
        *,
        history: ConnectionHistory,
        infer: Infer,
        metrics: ServerMetrics,
        reading: Executor,
        idle_timeout: float,
        send_timeout: float,
    ) -> None:
        self._connection = connection
        self._history = history
        self._infer = infer
        self._metrics = metrics
        self._reading = reading
        self._idle_timeout = idle_timeout
        self._send_timeout = send_timeout
        self._busy = False
        self._stopping = False
        self._answered = 0
        self._told_unknown = False

    async def run(self, metadata: bytes) -> None:
        """Serve until the client leaves, does something wrong, or the server stops."""
        remote = peer_of(self._connection)
        log_event("connection opened", connection=self._id, remote=remote)
        self._metrics.opened.inc()
        reason = "server"
        try:
            with self._metrics.connections.track_inprogress():
                reason = await self._converse(metadata)
        except ConnectionClosed as closed:
            reason = "server" if self._stopping else _who_closed(closed)
            if closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self._error("message", InputError(f"message: {closed.sent.reason}"))
        finally:
            self._metrics.closed.labels(reason).inc()
            log_event(
                "connection closed",
                connection=self._id,
                remote=remote,
                reason=reason,
                answered=self._answered,
            )

    async def stop(self) -> None:
        """Close the connection; after the answer to the request under way, if there is one."""
        self._stopping = True
        if not self._busy:
            await self._connection.close(CloseCode.GOING_AWAY, "the server stops")

    @property
    def _id(self) -> str:
        return str(self._connection.id)

    async def _converse(self, metadata: bytes) -> str:
        """Return what ended it."""
        if not await self._send(metadata):
            return "slow"
        while not self._stopping:
            try:
                async with asyncio.timeout(self._idle_timeout):
                    message = await self._receive()
            except TimeoutError:
                await self._connection.close(
                    CloseCode.GOING_AWAY, f"no message for {self._idle_timeout:g} seconds"
                )
                return "idle"
            self._busy = True
            started = time.perf_counter()
            answer = await self._answer(message)
            if isinstance(answer, str):
                await self._send_error(answer)
                return "error"
            if not await self._send(answer):
                return "slow"
            self._metrics.request_seconds.observe(time.perf_counter() - started)
            self._answered += 1
            self._busy = False
        await self._connection.close(CloseCode.GOING_AWAY, "the server stops")
        return "server"

    async def _receive(self) -> str | bytes | None:
        """Return the next message; None if it comes in more pieces than anybody needs."""
        pieces: list[Any] = []
        async for piece in self._connection.recv_streaming():
            pieces.append(piece)
            # Pieces may be empty, so that their number is not bounded by the size of a message.
            if len(pieces) > MAXIMUM_FRAGMENTS:
                return None
        message: str | bytes = pieces[0][:0].join(pieces) if len(pieces) > 1 else pieces[0]
        return message

    async def _answer(self, message: str | bytes | None) -> bytes | str:
        """Return the answer, packed, or the text of an error."""
        try:
            if message is None:
                raise InputError(f"message: more than {MAXIMUM_FRAGMENTS} fragments")
            request = await self._beside(len(message), read_request, message)
        except InputError as error:
            return self._error("message", error)
        try:
            return packb(await self._perform(request, len(message)))
        except InputError as error:
            return self._error("observation", error)
        except FloatingPointError as error:
            return self._error("policy", error)
        except Exception as error:
            # The connection ends and the others go on, whatever it was.
            log_event("internal error", level=logging.ERROR, error=error, connection=self._id)
            return self._error("internal", RuntimeError("internal error, see the server's log"))

    async def _perform(self, request: Request, size: int) -> dict[str, Any]:
        if request.reset:
            self._history.clear()
            self._metrics.resets.inc()
            if not request.obs:
                return {RESET: True}
        obs = await self._beside(size, self._history.add, request.obs)
        self._tell_unknown(request)
        prediction = await self._infer(obs, request)
        self._metrics.requests.inc()
        return {
            "actions": prediction.actions,
            "server_timing": {"infer_ms": 1e3 * prediction.seconds},
        }

    async def _beside(self, size: int, function: Callable[..., T], *arguments: Any) -> T:
        """Return what a function makes of a message of ``size`` bytes."""
        if size <= SMALL_BYTES:
            return function(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, function, *arguments)

    def _tell_unknown(self, request: Request) -> None:
        """Log once which observations are left out."""
        if self._told_unknown:
            return
        unknown = self._history.unknown(request.obs)
        if unknown:
            self._told_unknown = True
            log_event("observations left out", connection=self._id, names=unknown)

    def _error(self, reason: str, error: Exception) -> str:
        """Count and log an error, and return its text."""
        text = str(error)[:MAXIMUM_ERROR_TEXT]
        self._metrics.errors.labels(reason).inc()
        log_event(
            "bad request",
            level=logging.WARNING,
            connection=self._id,
            remote=peer_of(self._connection),
            reason=reason,
            error_text=text,
        )
        return text

    async def _send(self, message: bytes | str) -> bool:
        """Send; False if the client does not read, and so is given up."""
        try:
            async with asyncio.timeout(self._send_timeout):
                await self._connection.send(message)
        except TimeoutError:
            self._connection.transport.abort()
            return False
        return True

    async def _send_error(self, text: str) -> None:
        """Send the protocol's error: a text frame, then close code 1011."""
        with contextlib.suppress(ConnectionClosed):
            if await self._send(text):
                await self._connection.close(
                    CloseCode.INTERNAL_ERROR, "error: see the text frame before this one"
                )


def peer_of(connection: ServerConnection) -> str:
    """Return ``address:port`` of the other side, as far as it is still known."""
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unknown"


def _who_closed(closed: ConnectionClosed) -> str:
    """Return ``client``, ``protocol`` (it broke the websocket's rules) or ``lost``."""
    if closed.sent is not None and closed.sent.code in _BROKEN_RULES:
        return "protocol"
    return "lost" if closed.rcvd is None else "client"
