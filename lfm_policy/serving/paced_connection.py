"""A websocket whose bytes are read a little at a time, so that other robots get their turn."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

SLICE_BYTES = 2_048
"""Bytes that are parsed in one go. Frames without content have six."""
TURN_SECONDS = 0.001
"""Seconds after which the event loop has its turn; one slice may take longer."""
TURN_FRAMES = 32
"""Frames after which a client waits: those of robots are large, or come one at a time."""
PAUSE_SECONDS = 0.05
"""How long it waits then."""


class PacedConnection(ServerConnection):
    """Reads what came in slices, and lets the event loop run between them.

    The loop hands over up to 256 KiB at once, which the library parses at once: 43,000 frames
    without content, or pings, each with an answer, for a second or longer. Nobody else is served
    meanwhile. Here the rest waits its turn, or until the messages before it have been taken and
    the client has read its answers. A client that sends many small frames waits longer than others.

    A message that is too large is refused with a text, which clients of openpi show, before the
    close code 1009, of which they show nothing.
    """

    def __init__(self, protocol: ServerProtocol, *arguments: Any, **options: Any) -> None:
        super().__init__(protocol, *arguments, **options)
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

    def data_received(self, data: bytes) -> None:
        """Take what came, and parse what there is time for."""
        self._unread += data
        if self._next_turn is None:
            self._read()

    def process_event(self, event: Event) -> None:
        """Count the frames."""
        self._frames += 1
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
                self._next_turn = self.loop.call_later(PAUSE_SECONDS, self._read)
                break
            if self._unread and self.loop.time() > end:
                self._next_turn = self.loop.call_soon(self._read)
                break
        if self._unread or self._full or self._unsent or self._next_turn is not None:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _read_slice(self) -> None:
        data = bytes(self._unread[:SLICE_BYTES])
        del self._unread[:SLICE_BYTES]
        super().data_received(data)

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
