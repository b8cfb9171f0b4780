"""What goes wrong with one client, and that nobody else notices."""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lfm_policy.serving.logs import LOGGER
from lfm_runtime.wire.packing import packb, unpackb

from .wire import WAIT, raw, wait_until

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def join(port: int) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None) as websocket:
        websocket.recv(WAIT)
        yield websocket


def frame(payload: bytes, *, claimed: int | None = None, first: int = 0x82) -> bytes:
    """Return a masked frame (mask 0) that claims a length."""
    length = len(payload) if claimed is None else claimed
    return struct.pack(">BBQI", first, 0xFF, length, 0) + payload


def ask(websocket: ClientConnection, obs: Any) -> np.ndarray:
    websocket.send(packb(obs))
    answer = websocket.recv(WAIT)
    assert isinstance(answer, bytes), answer
    actions: np.ndarray = unpackb(answer)["actions"]
    return actions


def test_waiting_robots_share_a_call_and_get_their_own_answers(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy, max_batch=5)
    with contextlib.ExitStack() as stack:
        robots = [stack.enter_context(join(running.port)) for _ in range(8)]
        toy.hold.clear()
        robots[0].send(packb(obs(0)))
        assert toy.running.wait(WAIT)
        for number, robot in enumerate(robots[1:], start=1):
            robot.send(packb({**obs(100 * number), "__noise__": [0, 0, 0]}))
        wait_until(lambda: running.server._batcher._requests.qsize() == 7)
        toy.hold.set()
        sums = [unpackb(robot.recv(WAIT))["actions"][0, 0] for robot in robots]
    assert toy.rows == [1, 5, 2]
    assert [round(float(total) / 100) for total in sums[1:]] == list(range(1, 8))


def test_robots_with_prefixes_of_different_lengths_wait_together(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy)
    prefixes = [np.full((d, 3), 50.0 + d, np.float32) for d in (1, 0, 2, 1)]
    with contextlib.ExitStack() as stack:
        first, *robots = [stack.enter_context(join(running.port)) for _ in range(5)]
        toy.hold.clear()
        first.send(packb(obs()))
        assert toy.running.wait(WAIT)
        for robot, prefix in zip(robots, prefixes, strict=True):
            robot.send(packb({**obs(), "__prefix__": prefix}))
        wait_until(lambda: running.server._batcher._requests.qsize() == 4)
        toy.hold.set()
        for robot, prefix in zip(robots, prefixes, strict=True):
            actions = unpackb(robot.recv(WAIT))["actions"]
            np.testing.assert_array_equal(actions[: len(prefix)], prefix)
            assert abs(actions[len(prefix) :]).max() < 20
    assert toy.rows == [1, 1, 2, 1]
    assert toy.prefixes == [(2, 1, 3), (1, 2, 3)]


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (FloatingPointError("the policy's action is not finite"), "not finite"),
        (RuntimeError("secret"), "internal error, see the server's log"),
    ],
)
def test_a_robot_whose_policy_call_fails_fails_alone(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any], error: Exception, what: str
) -> None:
    running = start(toy)
    toy.broken = error
    with join(running.port) as first, join(running.port) as bad, join(running.port) as good:
        toy.hold.clear()
        first.send(packb(obs()))
        assert toy.running.wait(WAIT)
        bad.send(packb(obs(2e6)))
        good.send(packb(obs()))
        wait_until(lambda: running.server._batcher._requests.qsize() == 2)
        toy.hold.set()
        for robot in (first, good):
            assert unpackb(robot.recv(WAIT))["actions"].shape == (4, 3)
        text = bad.recv(WAIT)
        assert isinstance(text, str) and what in text and "secret" not in text
        with pytest.raises(ConnectionClosed):
            bad.recv(WAIT)
        assert bad.close_code == 1011
        assert ask(good, obs()).shape == (4, 3)


@pytest.fixture
def malformed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module with the messages that the benchmark sends too."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts" / "benchmarks"))
    import malformed_messages

    monkeypatch.delitem(sys.modules, "malformed_messages")
    return malformed_messages


def test_malformed_messages_end_their_connection_and_nothing_else(
    start: Callable[..., Any],
    toy: Any,
    obs: Callable[..., Any],
    malformed: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest keeps every line that is logged, which would be counted here.
    monkeypatch.setattr(LOGGER, "propagate", False)
    running = start(toy)
    rng = np.random.default_rng(0)

    def send_some(rounds: int) -> None:
        for _ in range(rounds):
            for kind in malformed.KINDS:
                with join(running.port) as websocket:
                    websocket.send(malformed.malformed(kind, rng, obs()))
                    assert isinstance(websocket.recv(WAIT), str), kind
                    with pytest.raises(ConnectionClosed):
                        websocket.recv(WAIT)
                    assert websocket.close_code == 1011

    with join(running.port) as bystander:
        send_some(3)
        tracemalloc.start()
        send_some(7)
        growth = []
        for _ in range(3):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            send_some(10)
            gc.collect()
            growth.append(tracemalloc.get_traced_memory()[0] - before)
        tracemalloc.stop()
        assert ask(bystander, obs()).shape == (4, 3)
    # What leaks grows every time; what other parts of the process load meanwhile does not.
    assert min(growth) < 150_000
    wait_until(lambda: running.metric("connections") == 0)
    assert not running.server._sessions


def test_a_client_that_dies_within_a_message(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy)
    with join(running.port) as bystander:
        with raw(running.port) as sock:
            sock.sendall(frame(b"\x81\xa5state", claimed=500))
            wait_until(lambda: running.metric("connections") == 2)
            # Without a goodbye: the kernel answers with a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: running.metric("connections") == 1)
        assert running.metric("connections_closed_total", reason="lost") == 1
        assert ask(bystander, obs()).shape == (4, 3)
    assert toy.rows == [1]


def test_a_client_that_dies_while_its_actions_are_computed(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy)
    with join(running.port) as bystander:
        with raw(running.port) as sock:
            toy.hold.clear()
            sock.sendall(frame(packb(obs())))
            assert toy.running.wait(WAIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        toy.hold.set()
        wait_until(lambda: running.metric("connections") == 1)
        assert ask(bystander, obs()).shape == (4, 3)


def test_a_client_that_claims_a_huge_frame(start: Callable[..., Any], toy: Any) -> None:
    running = start(toy)
    for claimed in (running.server.max_message_bytes + 1, 2**40, 2**62):
        with raw(running.port) as sock:
            sock.sendall(frame(b"", claimed=claimed))
            received = b""
            while chunk := sock.recv(4096):
                received += chunk
            assert struct.pack(">H", 1009) in received


def test_a_client_that_sends_ever_more_empty_fragments(start: Callable[..., Any], toy: Any) -> None:
    running = start(toy)
    with raw(running.port) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(frame(b"", first=0x02))
            for _ in range(200):
                sock.sendall(frame(b"", first=0x00) * 100)
        wait_until(lambda: running.metric("errors_total", reason="message") == 1)


def test_a_client_that_does_not_read(
    start: Callable[..., Any], make_toy: Callable[..., Any], obs: Callable[..., Any]
) -> None:
    # Answers of 48 KB fill the buffers between server and client soon.
    running = start(make_toy(horizon=4096, n_action_steps=4000), send_timeout=0.2)
    with join(running.port) as bystander, raw(running.port, receive_buffer=4096) as sock:
        message = frame(packb(obs()))

        def flood() -> None:
            with contextlib.suppress(OSError):
                for _ in range(5_000):
                    sock.sendall(message)

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        wait_until(lambda: running.metric("connections_closed_total", reason="slow") == 1)
        assert ask(bystander, obs()).shape == (4000, 3)
        thread.join(WAIT)
        assert not thread.is_alive()


def test_idle_connections_are_closed(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy, idle_timeout=0.2)
    with join(running.port) as idle, raw(running.port) as sock:
        sock.sendall(frame(b"\x81", claimed=100))  # never goes on
        with pytest.raises(ConnectionClosed):
            idle.recv(WAIT)
        assert "no message for 0.2 seconds" in (idle.close_reason or "")
        wait_until(lambda: running.metric("connections_closed_total", reason="idle") == 2)


def test_the_number_of_connections_is_bounded(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy, max_connections=2)
    with join(running.port) as first:
        with join(running.port):
            with pytest.raises(InvalidStatus) as caught, join(running.port):
                pass
            assert caught.value.response.status_code == 503
        wait_until(lambda: running.metric("connections") == 1)
        with join(running.port):
            assert ask(first, obs()).shape == (4, 3)


def test_stop_answers_what_is_under_way(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy, grace=WAIT)
    with join(running.port) as idle, join(running.port) as busy:
        toy.hold.clear()
        busy.send(packb(obs()))
        assert toy.running.wait(WAIT)
        running.server.stop()
        with pytest.raises(ConnectionClosed):
            idle.recv(WAIT)
        assert idle.close_code == 1001
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", running.port), WAIT)
        toy.hold.set()
        assert unpackb(busy.recv(WAIT))["actions"].shape == (4, 3)
        with pytest.raises(ConnectionClosed):
            busy.recv(WAIT)
        assert busy.close_code == 1001


def test_stop_does_not_wait_for_a_policy_call_that_hangs(
    start: Callable[..., Any], toy: Any, obs: Callable[..., Any]
) -> None:
    running = start(toy, grace=0.2)
    with join(running.port) as busy:
        toy.hold.clear()
        busy.send(packb(obs()))
        assert toy.running.wait(WAIT)
        running.stop()
        with pytest.raises(ConnectionClosed):
            busy.recv(WAIT)
