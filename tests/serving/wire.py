"""A client without a websocket library, which may break every rule."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

WAIT = 20.0
HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextlib.contextmanager
def raw(port: int, *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """Connect without a websocket library; the metadata lie unread."""
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(WAIT)
        sock.connect(("127.0.0.1", port))
        sock.sendall(HANDSHAKE.encode())
        assert b" 101 " in sock.recv(64)
        yield sock


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
