"""A websocket whose bytes are read a little at a time, so that other robots get their turn."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode, Frame
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from lfm_policy.serving.connections.session import peer_of
from lfm_policy.serving.logs import log_event

SLICE_BYTES = 2_048
"""Bytes that are parsed in one go, once a client has sent large frames."""
FIRST_SLICE_BYTES = 192
"""Before that, and after small ones: as many as ``TURN_FRAMES`` frames without content have."""
TURN_SECONDS = 0.001
"""Seconds after which the event loop has its turn; one slice may take longer."""
TURN_FRAMES = 32
"""Small frames after which a client waits: those of robots are large, or come one at a time."""
SMALL_FRAME_BYTES = 1_024
PAUSE_SECONDS = 0.05
"""How long it waits then."""
SLOT_SECONDS = 0.005
"""Of many that wait only one goes on in this time, however many there are."""
LONGEST_PAUSE_SECONDS = 2.0


class Handshakes:
    """Connections that have not become websockets yet; of too many the oldest is given up.

    They cost a client nothing, and the server a file descriptor each.

    Args:
        most: that there may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._connections: dict[PacedConnection, None] = {}

    def begin(self, connection: PacedConnection) -> PacedConnection | None:
        """Count one more; return the one that has to go, if there is one."""
        self._connections[connection] = None
        if len(self._connections) <= self._most:
            return None
        oldest = next(iter(self._connections))
        self.end(oldest)
        return oldest

    def end(self, connection: PacedConnection) -> None:
        """It has become a websocket, or is gone."""
        self._connections.pop(connection, None)


class PacedConnection(ServerConnection):
    """Reads what came in slices, and lets the event loop run between them.

    The loop hands over up to 256 KiB at once, which the library parses at once: 43,000 frames
    without content, or pings, each with an answer, for a second or longer. Nobody else is served
    meanwhile. Here the rest waits its turn, or until the messages before it have been taken and
    the client has read its answers. A client that sends many small frames waits longer than others,
    and the more of such clients there are, the longer does each of them.

    A message that is too large is refused with a text, which clients of openpi show, before the
    close code 1009, of which they show nothing.

    Args:
        protocol: of the library, as everything that follows it.
        handshakes: of the same server.
    """

    _next_slot: ClassVar[float] = 0.0

    def __init__(
        self, protocol: ServerProtocol, *arguments: Any, handshakes: Handshakes, **options: Any
    ) -> None:
        super().__init__(protocol, *arguments, **options)
        self._handshakes = handshakes
        self._slice_bytes = FIRST_SLICE_BYTES
        self._unread = bytearray()
        self._next_turn: asyncio.Handle | None = None
        self._frames = 0
        self._full = False
        self._unsent = False
        self._close_as_library = protocol.fail
        protocol.fail = self._fail  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; the queue of messages stops and starts the reading here, not in the transport."""
        super().connection_made(transport)
        self.recv_messages.pause = self._pause
        self.recv_messages.resume = self._resume
        given_up = self._handshakes.begin(self)
        if given_up is not None:
            log_event("connection refused", remote=peer_of(given_up), reason="handshakes")
            given_up.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came, and parse what there is time for."""
        self._unread += data
        if self._next_turn is None:
            self._read()

    def process_event(self, event: Event) -> None:
        """Count the frames, unless their content is what takes the time."""
        self._frames += not (isinstance(event, Frame) and len(event.data) > SMALL_FRAME_BYTES)
        super().process_event(event)

    def eof_received(self) -> None:
        """Parse what there is time for; a client that is gone needs no more."""
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._read()
        self._unread.clear()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what waits."""
        self._handshakes.end(self)
        self._unread.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
        super().connection_lost(exc)
        vars(self.protocol).pop("fail", None)  # it holds this connection, which holds it

    def pause_writing(self) -> None:
        """Read no more of a client that does not read: every ping of it would be answered."""
        super().pause_writing()
        self._unsent = True

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._unsent = False
        self._go_on()

    # -- inside -------------------------------------------------------------------------------

    def _read(self) -> None:
        self._next_turn = None
        self._frames = 0
        end = self.loop.time() + TURN_SECONDS
        while self._unread and not (self._full or self._unsent):
            self._read_slice()
            if self._frames > TURN_FRAMES:
                self._next_turn = self.loop.call_later(self._pause_seconds(), self._read)
                break
            if self._unread and self.loop.time() > end:
                self._next_turn = self.loop.call_soon(self._read)
                break
        if self._unread or self._full or self._unsent or self._next_turn is not None:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _read_slice(self) -> None:
        size, frames = self._slice_bytes, self._frames
        data = bytes(self._unread[:size])
        del self._unread[:size]
        super().data_received(data)
        few = self._frames - frames <= 1
        self._slice_bytes = min(2 * size, SLICE_BYTES) if few else FIRST_SLICE_BYTES

    def _pause_seconds(self) -> float:
        now = self.loop.time()
        slot = max(PacedConnection._next_slot, now + PAUSE_SECONDS)
        PacedConnection._next_slot = min(slot + SLOT_SECONDS, now + LONGEST_PAUSE_SECONDS)
        return slot - now

    def _pause(self) -> None:
        self._full = True

    def _resume(self) -> None:
        self._full = False
        self._go_on()

    def _go_on(self) -> None:
        if self._next_turn is None and not self.transport.is_closing():
            self._next_turn = self.loop.call_soon(self._read)

    def _fail(self, code: CloseCode | int, reason: str = "") -> None:
        if code == CloseCode.MESSAGE_TOO_BIG and self.protocol.state is State.OPEN:
            text = (
                f"message: {reason}; send smaller images, or start the server with a larger bound"
            )
            self.protocol.send_text(text.encode())
        self._close_as_library(code, reason)
