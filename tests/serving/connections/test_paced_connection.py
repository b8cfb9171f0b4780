"""Small frames and large messages take their turn with everybody else's."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from lfm_policy.serving import server as server_module
from lfm_policy.serving.connections.paced_connection import (
    FIRST_SLICE_BYTES,
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    SLICE_BYTES,
    SLOT_SECONDS,
    TURN_FRAMES,
    PacedConnection,
)
from lfm_policy.serving.connections.session import MAXIMUM_FRAGMENTS
from lfm_runtime.wire.packing import packb, unpackb

from ..wire import HANDSHAKE, WAIT, raw, wait_until

FRAGMENT, BEGINNING, PING, CLOSE = 0x00, 0x02, 0x89, 0x88


def small(first: int, payload: bytes = b"") -> bytes:
    """Return a masked frame (mask 0) of less than 126 bytes."""
    return struct.pack(">BBI", first, 0x80 | len(payload), 0) + payload


class Watched(PacedConnection):
    """Counts frames, and how many come between two turns of the event loop."""

    turns: list[int]
    made: list[Watched]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.turns = [0]
        Watched.made.append(self)

    def process_event(self, event: Any) -> None:
        if self.turns[-1] == 0:
            self.loop.call_soon(self.turns.append, 0)
        self.turns[-1] += 1
        super().process_event(event)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    Watched.made = []
    monkeypatch.setattr(server_module, "PacedConnection", Watched)
    return Watched


@pytest.mark.parametrize("first", [FRAGMENT, PING])
def test_the_event_loop_runs_between_small_frames(
    start: Callable[..., Any], toy: Any, watched: type[Watched], first: int
) -> None:
    running = start(toy)
    beginning = small(BEGINNING) if first == FRAGMENT else b""
    with raw(running.port) as sock:
        sock.sendall(beginning + small(first) * 600 + small(CLOSE))
        wait_until(lambda: bool(watched.made) and sum(watched.made[0].turns) >= 600)
    (connection,) = watched.made
    # One slice more than allowed; all at once it would be 600.
    assert max(connection.turns) <= TURN_FRAMES + FIRST_SLICE_BYTES // 6 + 1
    assert sum(turn > 0 for turn in connection.turns) > 1


def test_a_client_whose_pings_are_answered_in_vain_is_read_no_more(
    start: Callable[..., Any], toy: Any, watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lfm_policy.serving.connections.paced_connection.PAUSE_SECONDS", 0.0)
    running = start(toy)
    pings = small(PING, bytes(125)) * 1_000
    with raw(running.port, receive_buffer=4096) as sock:
        sock.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            for _ in range(1_000):
                sock.sendall(pings)
            raise AssertionError("131 MB of pings were read, and none of the answers")
        (connection,) = watched.made
        assert connection.transport.get_write_buffer_size() < 1_000_000
        assert len(connection._unread) <= 2**20


def test_a_message_in_many_fragments_is_read(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    message = packb(obs())
    pieces = [message[k : k + 1] for k in range(len(message))]
    assert 100 < len(pieces) < MAXIMUM_FRAGMENTS
    with connect(f"ws://127.0.0.1:{start(toy).port}", compression=None) as websocket:
        websocket.recv(WAIT)
        for _ in range(2):
            websocket.send(pieces)
            answer = websocket.recv(WAIT)
            assert isinstance(answer, bytes)
            assert unpackb(answer)["actions"].shape == (4, 3)


def test_ever_more_fragments_end_the_connection_before_the_message_ends(
    start: Callable[..., Any], toy: Any, watched: type[Watched]
) -> None:
    running = start(toy)
    with raw(running.port) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(small(BEGINNING) + small(FRAGMENT) * 50_000)
        wait_until(lambda: running.metric("errors_total", reason="message") == 1)
        received = b""
        with contextlib.suppress(OSError):
            while chunk := sock.recv(4096):
                received += chunk
    assert b"more than 1024 fragments" in received
    (connection,) = watched.made
    assert sum(connection.turns) < MAXIMUM_FRAGMENTS + 2 * SLICE_BYTES // 6


@pytest.mark.parametrize("size", [100, 50_000])
def test_messages_that_came_together_are_answered_in_order(
    start: Callable[..., Any], make_toy: Callable[..., Any], size: int
) -> None:
    policy = make_toy({"state": (size,), "camera": (2, 3, 3)})
    camera = np.zeros((2, 3, 3), np.uint8)
    with connect(f"ws://127.0.0.1:{start(policy).port}", compression=None) as websocket:
        websocket.recv(WAIT)
        for total in range(40):
            state = np.zeros(size, np.float32)
            state[0] = 100 * total
            websocket.send(packb({"state": state, "camera": camera, "__noise__": [0, 0, 0]}))
        answers = [unpackb(websocket.recv(WAIT))["actions"] for _ in range(40)]
    assert [round(float(actions[0, 0]) / 100) for actions in answers] == list(range(40))


@pytest.mark.parametrize("large", [False, True])
def test_large_messages_are_read_beside_the_event_loop(
    start: Callable[..., Any],
    toy: Any,
    obs: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    large: bool,
) -> None:
    from lfm_policy.serving import observations
    from lfm_policy.serving.connections import session

    threads: dict[str, str] = {}
    read_request, arranged = session.read_request, observations.arranged

    def reading(message: Any) -> Any:
        threads["message"] = threading.current_thread().name
        return read_request(message)

    def arranging(*arguments: Any, **options: Any) -> Any:
        threads["observation"] = threading.current_thread().name
        return arranged(*arguments, **options)

    monkeypatch.setattr(session, "read_request", reading)
    monkeypatch.setattr(observations, "arranged", arranging)
    running = start(toy)
    message = {**obs(), "prompt": "push the T" * (1_000 if large else 1)}
    with connect(f"ws://127.0.0.1:{running.port}", compression=None) as websocket:
        websocket.recv(WAIT)
        websocket.send(packb(message))
        assert isinstance(websocket.recv(WAIT), bytes)
    for name in threads.values():
        assert (name == running.thread.name) != large
        assert name.startswith("lfm-reading") == large
    assert threads.keys() == {"message", "observation"}


def test_nobody_waits_for_a_message_that_takes_long_to_read(
    start: Callable[..., Any],
    toy: Any,
    obs: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lfm_policy.serving.connections import session

    reading, go_on = threading.Event(), threading.Event()
    read_request = session.read_request

    def slow(message: Any) -> Any:
        if len(message) > 10_000:
            reading.set()
            assert go_on.wait(WAIT)
        return read_request(message)

    monkeypatch.setattr(session, "read_request", slow)
    port = start(toy).port

    def ask(websocket: ClientConnection, message: Any) -> None:
        websocket.send(packb(message))

    with (
        connect(f"ws://127.0.0.1:{port}", compression=None) as one,
        connect(f"ws://127.0.0.1:{port}", compression=None) as other,
    ):
        one.recv(WAIT), other.recv(WAIT)
        ask(one, {**obs(), "prompt": "x" * 20_000})
        assert reading.wait(WAIT)
        ask(other, obs())
        assert isinstance(other.recv(WAIT), bytes)
        go_on.set()
        assert isinstance(one.recv(WAIT), bytes)


def test_of_many_clients_with_small_frames_one_goes_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PacedConnection, "_next_slot", 0.0)
    connection = object.__new__(PacedConnection)
    connection.loop = SimpleNamespace(time=lambda: 100.0)  # type: ignore[assignment]
    pauses = [connection._pause_seconds() for _ in range(1_000)]
    assert pauses[:3] == pytest.approx([PAUSE_SECONDS + k * SLOT_SECONDS for k in range(3)])
    assert max(pauses) == pauses[-1] == pytest.approx(LONGEST_PAUSE_SECONDS)
    connection.loop = SimpleNamespace(time=lambda: 200.0)  # type: ignore[assignment]
    assert connection._pause_seconds() == pytest.approx(PAUSE_SECONDS)


def test_slices_grow_with_large_frames_and_shrink_with_small_ones(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any], watched: type[Watched]
) -> None:
    with raw(start(toy).port) as sock:
        large = {**obs(), "other": np.zeros(50_000, dtype=np.uint8)}
        message = packb(large)
        sock.sendall(struct.pack(">BBHI", 0x82, 0x80 | 126, len(message), 0) + message)
        (connection,) = watched.made
        wait_until(lambda: connection._slice_bytes == SLICE_BYTES)
        sock.sendall(small(PING) * 600)
        wait_until(lambda: sum(connection.turns) >= 300)
        assert connection._slice_bytes == FIRST_SLICE_BYTES


def test_of_too_many_that_never_become_websockets_the_oldest_is_given_up(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy, max_connections=2)
    with contextlib.ExitStack() as stack:
        waiting = []
        for _ in range(3):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), WAIT))
            sock.sendall(b"GET / HTTP/1.1\r\n")
            waiting.append(sock)
        with contextlib.suppress(ConnectionResetError):
            assert waiting[0].recv(1) == b""
        with connect(f"ws://127.0.0.1:{running.port}", compression=None) as websocket:
            websocket.recv(WAIT)
            websocket.send(packb(obs()))
            assert isinstance(websocket.recv(WAIT), bytes)
        # The websocket above had its turn at the cost of the second; the third still may go on.
        waiting[2].sendall(HANDSHAKE.partition("\r\n")[2].encode())
        assert b" 101 " in waiting[2].recv(64)
