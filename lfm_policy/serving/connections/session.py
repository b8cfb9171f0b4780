"""One robot's connection, from its metadata to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
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

_BROKEN_RULES = (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.MESSAGE_TOO_BIG)

Infer = Callable[[dict[str, np.ndarray], Request], Awaitable[Prediction]]
"""From a history (n_obs_steps, *shape) by name and what was asked with it to the actions."""

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class Session:
    """Answers the messages of one client, one after the other.

    Attributes:
        connection: open websocket.
        history: empty, of this connection alone.
        infer: computes actions.
        metrics: where it is counted.
        reading: threads that read large messages, while the event loop serves other robots.
        idle_timeout: seconds to wait for a whole message.
        send_timeout: seconds to wait for a client that does not read.
    """

    connection: ServerConnection
    history: ConnectionHistory
    infer: Infer
    metrics: ServerMetrics
    reading: Executor
    idle_timeout: float
    send_timeout: float

    def __post_init__(self) -> None:
        self._id = str(self.connection.id)
        self._busy = self._stopping = self._told_unknown = False
        self._answered = 0

    async def run(self, metadata: bytes) -> None:
        """Serve until the client leaves, does something wrong, or the server stops."""
        remote = peer_of(self.connection)
        log_event("connection opened", connection=self._id, remote=remote)
        self.metrics.opened.inc()
        reason = "server"
        try:
            with self.metrics.connections.track_inprogress():
                reason = await self._converse(metadata)
        except ConnectionClosed as closed:
            reason = "server" if self._stopping else _who_closed(closed)
            if closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                self._error("message", InputError(f"message: {closed.sent.reason}"))
        finally:
            self.metrics.closed.labels(reason).inc()
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
            await self.connection.close(CloseCode.GOING_AWAY, "the server stops")

    async def _converse(self, metadata: bytes) -> str:
        """Return what ended it."""
        if not await self._send(metadata):
            return "slow"
        while not self._stopping:
            try:
                async with asyncio.timeout(self.idle_timeout):
                    message = await self._receive()
            except TimeoutError:
                await self.connection.close(
                    CloseCode.GOING_AWAY, f"no message for {self.idle_timeout:g} seconds"
                )
                return "idle"
            self._busy = True
            started = time.perf_counter()
            answer = await self._answer(message)
            if isinstance(answer, str):
                # The protocol's error: a text frame, then close code 1011.
                with contextlib.suppress(ConnectionClosed):
                    if await self._send(answer):
                        why = "error: see the text frame before this one"
                        await self.connection.close(CloseCode.INTERNAL_ERROR, why)
                return "error"
            if not await self._send(answer):
                return "slow"
            self.metrics.request_seconds.observe(time.perf_counter() - started)
            self._answered += 1
            self._busy = False
        await self.connection.close(CloseCode.GOING_AWAY, "the server stops")
        return "server"

    async def _receive(self) -> str | bytes | None:
        """Return the next message; None if it comes in more pieces than anybody needs."""
        pieces: list[Any] = []
        async for piece in self.connection.recv_streaming():
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
            self.history.clear()
            self.metrics.resets.inc()
            if not request.obs:
                return {RESET: True}
        obs = await self._beside(size, self.history.add, request.obs)
        unknown = self.history.unknown(request.obs)
        if unknown and not self._told_unknown:
            self._told_unknown = True
            log_event("observations left out", connection=self._id, names=unknown)
        prediction = await self.infer(obs, request)
        self.metrics.requests.inc()
        return {
            "actions": prediction.actions,
            "server_timing": {"infer_ms": 1e3 * prediction.seconds},
        }

    async def _beside(self, size: int, function: Callable[..., T], *arguments: Any) -> T:
        """Return what a function makes of a message of ``size`` bytes."""
        if size <= SMALL_BYTES:
            return function(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.reading, function, *arguments)

    def _error(self, reason: str, error: Exception) -> str:
        """Count and log an error, and return its text."""
        text = str(error)[:MAXIMUM_ERROR_TEXT]
        self.metrics.errors.labels(reason).inc()
        log_event(
            "bad request",
            level=logging.WARNING,
            connection=self._id,
            remote=peer_of(self.connection),
            reason=reason,
            error_text=text,
        )
        return text

    async def _send(self, message: bytes | str) -> bool:
        """Send; False if the client does not read, and so is given up."""
        try:
            async with asyncio.timeout(self.send_timeout):
                await self.connection.send(message)
        except TimeoutError:
            self.connection.transport.abort()
            return False
        return True


def peer_of(connection: ServerConnection) -> str:
    """Return ``address:port`` of the other side, as far as it is still known."""
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "unknown"


def _who_closed(closed: ConnectionClosed) -> str:
    """Return ``client``, ``protocol`` (it broke the websocket's rules) or ``lost``."""
    if closed.sent is not None and closed.sent.code in _BROKEN_RULES:
        return "protocol"
    return "lost" if closed.rcvd is None else "client"
