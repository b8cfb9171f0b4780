"""A websocket to a policy server: one question, one answer, and every wait has an end."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lfm_runtime.errors import InputError, PolicyServerError
from lfm_runtime.wire.packing import unpackb
from lfm_runtime.wire.protocol import DEFAULT_PORT

MAXIMUM_MESSAGE_BYTES = 64_000_000
MAXIMUM_ERROR_TEXT = 10_000
_BUFFERED_MESSAGES = 1
"""Messages that nobody asked for are not read ahead: they may be large."""
CLOSE_SECONDS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_SHORTEST_WAIT = 1.0
_HTTP_REFUSED, _HTTP_BUSY = (401, 403), (503,)

_LOG = logging.getLogger(__name__)


class PolicyConnection:
    """Sends messages to any server that speaks openpi's websocket protocol.

    A lost connection is opened again by the `ask` that lost it, or by a later one. May be used
    from several threads; one question is answered after the other.

    Attributes:
        uri: of the server.
        opened: how often a connection was opened.

    Args:
        host: name or address, or a URI that begins with ``ws://`` or ``wss://``.
        port: 8000 when left out, or what the URI says.
        api_key: sent as ``Authorization: Api-Key <key>``.
        ssl_context: for ``wss://``; the system's certificates when left out.
        on_metadata: called with the metadata of every new connection; may raise to refuse it.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        api_key: str | None = None,
        ssl_context: SSLContext | None = None,
        on_metadata: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.uri, self._address = _uri_and_address(host, port)
        self._headers = {} if api_key is None else {"Authorization": f"Api-Key {api_key}"}
        self._ssl_context = ssl_context if self.uri.startswith("wss:") else None
        self._on_metadata = on_metadata
        self._lock = threading.Lock()
        self._stack: contextlib.ExitStack | None = None
        self._websocket: ClientConnection | None = None
        self.opened = 0

    def open(self, timeout: float) -> None:
        """Connect unless connected, waiting for the server to come up.

        Raises:
            InputError: the server refuses the key, or sends no metadata that can be read.
            ConnectionError: there is still no server after ``timeout`` seconds, at least one.
        """
        with self._lock:
            # A moment to connect in also where nobody wants to wait for a server to come up.
            self._connected(time.monotonic() + max(timeout, _SHORTEST_WAIT), said=False)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known without using it."""
        return self._websocket is not None

    def ask(self, message: bytes, timeout: float, *, resend: bool = True) -> dict[str, Any]:
        """Send one message and return the answer.

        Args:
            message: packed.
            timeout: seconds for everything: connecting, sending and waiting.
            resend: if the connection is lost on the way, open it again and send the message once
                more, as long as the time lasts.

        Raises:
            PolicyServerError: the server answered with an error, and closed the connection.
            TimeoutError: no answer came in time; the connection is given up, because the answer
                could be taken for that of the next message.
            ConnectionError: there is no connection, and none could be opened in time.
            InputError: as `open`.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            while True:
                websocket = self._connected(deadline)
                try:
                    _limit_sending(websocket.socket, deadline)
                    websocket.send(message)
                    answer = websocket.recv(timeout=max(0.0, deadline - time.monotonic()))
                except TimeoutError:
                    self._drop()
                    raise TimeoutError(f"{self.uri}: no answer after {timeout:g} seconds") from None
                except (ConnectionClosed, OSError) as error:
                    self._drop()
                    if not resend or time.monotonic() >= deadline:
                        raise ConnectionError(f"{self.uri}: connection lost: {error}") from None
                    _LOG.warning("%s: connection lost: %s", self.uri, error)
                    resend = False
                except BaseException:  # Ctrl-C: the answer would be taken for that of the next
                    self._drop()
                    raise
                else:
                    return self._read(answer)

    def close(self) -> None:
        """Close the connection; the next `ask` would open another one."""
        with self._lock:
            self._drop(orderly=True)

    # -- inside, under the lock -----------------------------------------------------------------

    def _read(self, answer: str | bytes) -> dict[str, Any]:
        if isinstance(answer, str):
            self._drop()
            shown = answer[:MAXIMUM_ERROR_TEXT]
            if len(answer) > len(shown):
                shown += f" ... ({len(answer):,} characters)"
            raise PolicyServerError(f"{self.uri}: {shown}")
        try:
            content = unpackb(answer, label=f"{self.uri}: answer")
            if not isinstance(content, dict):
                raise InputError(
                    f"{self.uri}: answer: found {type(content).__name__}, expected a map"
                )
        except InputError:
            self._drop()
            raise
        return content

    def _connected(self, deadline: float, *, said: bool = True) -> ClientConnection:
        pause = _FIRST_PAUSE
        while True:
            if self._websocket is not None:
                return self._websocket
            try:
                self._open_once(deadline)
                continue
            except InvalidStatus as error:
                status = error.response.status_code
                if status in _HTTP_REFUSED:
                    raise InputError(
                        f"{self.uri}: the server refuses this client (HTTP {status}): is the API "
                        "key right (api_key, --api-key-file)?"
                    ) from None
                if status not in _HTTP_BUSY:
                    raise ConnectionError(
                        f"{self.uri}: answers with HTTP {status}: no policy server"
                    ) from None
                reason = f"HTTP {status}: busy"
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError) as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() + pause >= deadline:
                raise ConnectionError(f"{self.uri}: no policy server: {reason}") from None
            if not said:
                seconds = deadline - time.monotonic()
                _LOG.info("%s: no policy server yet; waiting up to %.0f s", self.uri, seconds)
                said = True
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _open_once(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left to connect")
        # A socket of our own: a robot's traffic must not go where the HTTP proxy of some
        # environment variable says.
        sock = socket.create_connection(self._address, timeout=left)
        try:
            sock.settimeout(None)
            stack = contextlib.ExitStack()
            websocket = stack.enter_context(
                connect(
                    self.uri,
                    sock=sock,
                    ssl=self._ssl_context,
                    compression=None,
                    max_size=MAXIMUM_MESSAGE_BYTES,
                    max_queue=_BUFFERED_MESSAGES,
                    additional_headers=self._headers,
                    open_timeout=left,
                    close_timeout=CLOSE_SECONDS,
                )
            )
        except BaseException:
            sock.close()
            raise
        self._stack, self._websocket = stack, websocket
        try:
            metadata = self._read(websocket.recv(timeout=max(0.0, deadline - time.monotonic())))
            if self._on_metadata is not None:
                self._on_metadata(metadata)
        except BaseException:
            self._drop()
            raise
        self.opened += 1

    def _drop(self, *, orderly: bool = False) -> None:
        websocket, stack = self._websocket, self._stack
        self._websocket = self._stack = None
        if websocket is None or stack is None:
            return
        if not orderly:
            with contextlib.suppress(OSError):
                # Otherwise closing waits for the answer of a server that may be gone.
                websocket.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError, ConnectionClosed):
            stack.close()


def _uri_and_address(host: str, port: int | None) -> tuple[str, tuple[str, int]]:
    if not host.startswith(("ws://", "wss://")):
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return _uri_and_address(f"ws://{host}", DEFAULT_PORT if port is None else port)
    try:
        parts = urlsplit(host)
        name, own_port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{host[:200]}: not the address of a server: {error}") from None
    if not name or (port is not None and own_port is not None and port != own_port):
        raise InputError(
            f"{host[:200]}: not the address of a server, or with another port than {port}"
        )
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"{parts.scheme}://...@{name}: a user or a password in the address is not sent: give "
            "the server's key as api_key (--api-key-file)"
        )
    default = 443 if parts.scheme == "wss" else 80
    number = next(p for p in (own_port, port, default) if p is not None)
    netloc = f"[{name}]" if ":" in name else name
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{netloc}:{number}{parts.path or '/'}{query}", (name, number)


def _limit_sending(sock: socket.socket, deadline: float) -> None:
    # Sending has no timeout of its own: it would wait forever for a server that does not read.
    left = max(0.001, deadline - time.monotonic())
    seconds = int(left)
    with contextlib.suppress(OSError, struct.error):  # as on systems with another struct timeval
        sock.setsockopt(
            socket.SOL_SOCKET,
            socket.SO_SNDTIMEO,
            struct.pack("ll", seconds, int((left - seconds) * 1e6)),
        )
