"""What goes wrong beside the robots of a policy server, and what they notice of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from malformed_messages import KINDS, malformed
from server_load import WAIT, Load, ServerProcess, joined, percentiles, robot
from websockets.exceptions import ConnectionClosed

from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.control import ControlLoop

RESET_AT_CLOSE = struct.pack("ii", 1, 0)


async def measure_malformed(
    server: ServerProcess, obs: Mapping[str, np.ndarray], good: list[bytes], count: int
) -> dict[str, Any]:
    """Send bad messages, one connection each, beside a robot that must not notice."""
    rng = np.random.default_rng(0)
    kinds = list(KINDS)
    refused, left = 0, 0
    resident = []
    beside = Load()
    stop = time.perf_counter() + 3600
    bystander = asyncio.create_task(robot(server.port, good, 10, stop, beside))
    for n in range(count):
        if n % max(1, count // 20) == 0:
            resident.append(await asyncio.to_thread(lambda: server.resident_mb))
        async with joined(server.port) as websocket:
            await websocket.send(malformed(kinds[n % len(kinds)], rng, obs))
            answer = await asyncio.wait_for(websocket.recv(), WAIT)
            refused += isinstance(answer, str)
            with contextlib.suppress(ConnectionClosed):
                await asyncio.wait_for(websocket.recv(), WAIT)
            left += websocket.close_code == 1011
    resident.append(await asyncio.to_thread(lambda: server.resident_mb))
    bystander.cancel()
    await asyncio.gather(bystander, return_exceptions=True)
    return {
        "messages": count,
        "kinds": kinds,
        "refused_with_text": refused,
        "closed_with_1011": left,
        "server_alive": server.alive,
        "internal_errors": sum(e["event"] == "internal error" for e in server.log()),
        "resident_mb_first_tenth": round(resident[2], 1),
        "resident_mb_last": round(resident[-1], 1),
        "bystander": {**percentiles(beside.seconds), "lost": beside.lost},
    }


def _handshake(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), WAIT)
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    sock.recv(64)
    return sock


def _frame(payload: bytes) -> bytes:
    return struct.pack(">BBQI", 0x82, 0xFF, len(payload), 0) + payload


async def measure_beside(
    server: ServerProcess, good: list[bytes], what: Any, seconds: float
) -> dict[str, Any]:
    """Return what four robots saw while ``what`` went on in a thread."""
    beside, ended = Load(), threading.Event()
    thread = threading.Thread(target=what, args=(ended,), daemon=True)
    thread.start()
    until = time.perf_counter() + seconds
    await asyncio.gather(*(robot(server.port, good, 10, until, beside) for _ in range(4)))
    ended.set()
    await asyncio.to_thread(thread.join, WAIT)
    return {**percentiles(beside.seconds), "lost": beside.lost, "server_alive": server.alive}


def killed_clients(server: ServerProcess, message: bytes, count: int) -> Any:
    def run(ended: threading.Event) -> None:
        for n in range(count):
            with _handshake(server.port) as sock:
                whole = _frame(message)
                sock.sendall(whole[: 1 + n % (len(whole) - 1)])
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)

    return run


def slow_client(server: ServerProcess, message: bytes) -> Any:
    def run(ended: threading.Event) -> None:
        with _handshake(server.port) as sock, contextlib.suppress(OSError):
            while not ended.is_set():
                sock.sendall(_frame(message))

    return run


def again_and_again(server: ServerProcess, data: bytes, patience: float) -> Any:
    """Return an attack: one connection after the other that sends ``data``.

    Args:
        server: the target.
        data: frames.
        patience: seconds to wait for a server that reads no more, or for its answer.
    """

    def run(ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError), _handshake(server.port) as sock:
                sock.settimeout(patience)
                sock.sendall(data)
                while sock.recv(65_536):
                    pass

    return run


def attacks(server: ServerProcess) -> dict[str, Any]:
    """Return attacks that cost more to read than to send, by name."""

    def small(first: int, following: int, count: int) -> Any:
        """Frames without content; opcode and finality of the first and of the others."""
        others = (count - 1) * struct.pack(">BBI", following, 0x80, 0)
        return again_and_again(server, struct.pack(">BBI", first, 0x80, 0) + others, patience=1.0)

    rows = [b"\xdc\x10\x00" + b"\x80" * 4096] * 4_000
    maps = b"\x81\xa5state\xdc" + struct.pack(">H", len(rows)) + b"".join(rows)
    return {
        "5,000 empty fragments": small(0x02, 0x00, 5_000),
        "100,000 empty fragments": small(0x02, 0x00, 100_000),
        "100,000 pings": small(0x89, 0x89, 100_000),
        "100,000 empty messages": small(0x82, 0x82, 100_000),
        "messages of 16 MB of empty maps": again_and_again(server, _frame(maps), patience=WAIT),
    }


class StandIn:
    """A robot that is told what to do and shows one observation."""

    simulated = True

    def __init__(self, obs: Mapping[str, np.ndarray], events: dict[int, Any], ticks: int) -> None:
        self._obs = obs
        self._events = events
        self._ticks = ticks
        self.told: list[tuple[float, np.ndarray]] = []
        self.tick = 0
        self.stopped = 0

    @property
    def done(self) -> bool:
        return self.tick >= self._ticks

    def observe(self) -> Mapping[str, np.ndarray]:
        self.tick += 1
        if self.tick in self._events:
            threading.Thread(target=self._events[self.tick], daemon=True).start()
        return self._obs

    def act(self, action: np.ndarray) -> None:
        self.told.append((time.perf_counter(), action.copy()))

    def stop(self) -> None:
        self.stopped += 1


def measure_restart(server: ServerProcess, obs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Kill the server under a control loop of 10 Hz, and start it again 2 seconds later."""
    times: dict[str, float] = {}

    def kill() -> None:
        server.kill()
        times["killed"] = time.perf_counter()

    def start() -> None:
        server.start()
        times["back"] = time.perf_counter()

    robot = StandIn(obs, {30: kill, 50: start}, ticks=400)
    with WebsocketClientPolicy(port=server.port, timeout=0.5) as policy:
        result = ControlLoop(robot, policy, hz=10).run()
    moves = [
        at
        for (_, before), (at, action) in zip(robot.told, robot.told[1:], strict=False)
        if not np.array_equal(before, action)
    ]
    # The longest standstill, and not what lies before and after "back": the robot may have resumed
    # before it was noted that the server answers.
    after = [times["killed"], *(at for at in moves if at > times["killed"])]
    stood, resumed = max(pairwise(after), key=lambda gap: gap[1] - gap[0])
    return {
        "down_seconds": round(times["back"] - times["killed"], 2),
        "moved_after_kill_seconds": round(stood - times["killed"], 2),
        "resumed_seconds_after_listening": round(resumed - times["back"], 2),
        "failed_calls": result.failed_calls,
        "ended_because": result.reason,
        "robot_stopped": robot.stopped,
        "all_actions_finite": all(bool(np.isfinite(action).all()) for _, action in robot.told),
    }
