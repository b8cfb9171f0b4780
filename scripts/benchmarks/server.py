"""Load and faults of the policy server: a process that serves, and this one that is its clients.

Both run on this machine, so the clients take time from the server. Latency is from the moment an
observation is sent to its answer being read; an answer that takes longer than a period is late.

    python scripts/benchmarks/server.py pusht-state --data docs/results/data
    python scripts/results/write.py                                # the page, of the data
    python scripts/benchmarks/server.py pusht-state --seconds 5 --messages 700
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import websockets.asyncio.client
import websockets.sync.client
from malformed_messages import KINDS, malformed
from websockets.exceptions import ConnectionClosed

from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.benchmark import computer
from lfm_runtime.control import ControlLoop
from lfm_runtime.disk.files import write_json
from lfm_runtime.wire.packing import packb

CLIENTS = 64
HZ = 10.0
WAIT = 30.0
START_SECONDS = 120.0
KILLED_CLIENTS = 500
AFTER_RESTART = 100
"""Ticks for which a robot goes on once the server is back."""
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class ServerProcess:
    """``lfm-policy serve``, started, killed and started again on the same port."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._log = Path(tempfile.mkdtemp(prefix="lfm-bench-server-")) / "log.jsonl"
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, and return when it listens."""
        started = time.perf_counter()
        arguments = ["serve", self._policy, "--port", str(self.port)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lfm_policy", *arguments],
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        while not (listening := self.events("listening")):
            if self.process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                raise SystemExit(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.02)
        self.port = listening[0]["port"]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of the log so far that tell of an event."""
        lines = map(json.loads, self._log.read_text(encoding="utf-8").split("\n")[:-1])
        return [line for line in lines if line["event"] == name]

    def metric(self, name: str) -> float:
        """Return a metric, summed over its labels; 0 if it has not been counted yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=WAIT) as page:
            text = page.read().decode()
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def resident_mb(self) -> float:
        return round(self.metric("process_resident_memory_bytes") / 1e6, 1)


class Seen:
    """What some robots saw: seconds of each answer, and how many answers were lost."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.lost = 0

    async def ask(self, port: int, frames: list[bytes], over: threading.Event) -> None:
        """Ask at a fixed rate until it is over; a late answer makes a robot skip a beat."""
        url = f"ws://127.0.0.1:{port}"
        async with websockets.asyncio.client.connect(
            url, compression=None, max_size=None, proxy=None
        ) as websocket:
            await asyncio.wait_for(websocket.recv(), WAIT)
            beat = time.perf_counter() + np.random.default_rng().uniform(0, 1 / HZ)
            number = 0
            while not over.is_set():
                await asyncio.sleep(max(0.0, beat - time.perf_counter()))
                started = time.perf_counter()
                try:
                    await websocket.send(frames[number % len(frames)])
                    answer = await asyncio.wait_for(websocket.recv(), WAIT)
                except (ConnectionClosed, TimeoutError):
                    self.lost += 1
                    return
                self.lost += isinstance(answer, str)
                self.seconds.append(time.perf_counter() - started)
                number += 1
                while beat <= time.perf_counter():
                    beat += 1 / HZ


async def watch(
    server: ServerProcess,
    frames: list[bytes],
    *,
    robots: int,
    seconds: float = 0.0,
    fault: Callable[[threading.Event], dict[str, Any] | None] | None = None,
) -> dict[str, Any]:
    """Return what robots saw for so many seconds, or until the fault beside them has ended.

    A fault runs in a thread and is told when the seconds are over; what it returns is added.
    """
    rows_of_calls = "lfm_policy_batch_rows"
    names = (f"{rows_of_calls}_count", f"{rows_of_calls}_sum", "process_cpu_seconds_total")
    before = [server.metric(name) for name in names]
    started = time.perf_counter()
    seen, over = Seen(), threading.Event()
    asking = [asyncio.create_task(seen.ask(server.port, frames, over)) for _ in range(robots)]
    beside = asyncio.create_task(asyncio.to_thread(fault, over)) if fault else None
    if seconds:
        await asyncio.sleep(seconds)
        over.set()
    found = await beside if beside else None
    over.set()
    await asyncio.gather(*asking)
    took = time.perf_counter() - started
    calls, rows, cpu = (server.metric(name) - old for name, old in zip(names, before, strict=True))
    p50, p95, p99 = np.percentile(seen.seconds, [50, 95, 99])
    milliseconds = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": max(seen.seconds)}
    return {
        "robots": robots,
        "seconds": round(took, 1),
        "answers": len(seen.seconds),
        **{name: round(1e3 * float(value), 2) for name, value in milliseconds.items()},
        "late": sum(s > 1 / HZ for s in seen.seconds),
        "lost": seen.lost,
        "robots_per_call": round(rows / max(1, calls), 2),
        "server_cpu_share": round(cpu / took, 3),
        "resident_mb": server.resident_mb(),
        **(found or {}),
    }


def malformed_messages(
    server: ServerProcess, obs: Mapping[str, np.ndarray], count: int
) -> dict[str, Any]:
    """Send bad messages, one connection each."""
    rng = np.random.default_rng(0)
    refused = left = 0
    after_a_tenth = 0.0
    for n in range(count):
        if n == count // 10:
            after_a_tenth = server.resident_mb()
        with websockets.sync.client.connect(
            f"ws://127.0.0.1:{server.port}", compression=None, max_size=None, proxy=None
        ) as websocket:
            websocket.recv(WAIT)
            websocket.send(malformed(KINDS[n % len(KINDS)], rng, obs))
            refused += isinstance(websocket.recv(WAIT), str)
            with contextlib.suppress(ConnectionClosed):
                websocket.recv(WAIT)
            left += websocket.close_code == 1011
    return {
        "messages": count,
        "refused_with_text": refused,
        "closed_with_1011": left,
        "internal_errors": len(server.events("internal error")),
        "resident_mb_first_tenth": after_a_tenth,
    }


def _handshake(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), WAIT)
    sock.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    sock.recv(64)
    return sock


def killed_clients(server: ServerProcess, frame: bytes) -> None:
    for n in range(KILLED_CLIENTS):
        with _handshake(server.port) as sock:
            sock.sendall(frame[: 1 + n % (len(frame) - 1)])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)


def slow_client(server: ServerProcess, frame: bytes, over: threading.Event) -> None:
    """Send, and read nothing, until it is over."""
    with _handshake(server.port) as sock, contextlib.suppress(OSError):
        while not over.is_set():
            sock.sendall(frame)


class StandIn:
    """A robot that is told what to do and shows one observation; ``events`` by tick.

    It is done after tick ``last``.
    """

    simulated = True

    def __init__(self, obs: Mapping[str, np.ndarray], events: dict[int, Any], last: int) -> None:
        self._obs, self._events, self.last = obs, events, last
        self.told: list[tuple[float, np.ndarray]] = []
        self.tick = 0

    @property
    def done(self) -> bool:
        return self.tick >= self.last

    def observe(self) -> Mapping[str, np.ndarray]:
        self.tick += 1
        if self.tick in self._events:
            threading.Thread(target=self._events[self.tick], daemon=True).start()
        return self._obs

    def act(self, action: np.ndarray) -> None:
        self.told.append((time.perf_counter(), action.copy()))

    def stop(self) -> None:
        pass


def measure_restart(server: ServerProcess, obs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Kill the server under a control loop, and start it again 2 seconds later."""
    times: dict[str, float] = {}

    def kill() -> None:
        server.process.kill()
        server.process.wait()
        times["killed"] = time.perf_counter()

    def start() -> None:
        server.start()
        times["back"] = time.perf_counter()
        robot.last = robot.tick + AFTER_RESTART

    robot = StandIn(obs, {30: kill, 50: start}, last=50 + int(START_SECONDS * HZ))
    with WebsocketClientPolicy(port=server.port, timeout=0.5) as policy:
        ControlLoop(robot, policy, hz=HZ).run()
    moves = [
        at
        for (_, before), (at, action) in pairwise(robot.told)
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
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", help="checkpoint, export, or a policy of the package")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the load; others a quarter")
    parser.add_argument("--messages", type=int, default=10_000, help="malformed ones")
    parser.add_argument("--data", type=Path, help="folder to write server.json into")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "policy": arguments.policy,
        "hz": HZ,
        "clients_killed": KILLED_CLIENTS,
        "computer": computer(),
    }
    server = ServerProcess(arguments.policy)
    try:
        with WebsocketClientPolicy(port=server.port) as policy:
            results["nfe"] = policy.metadata.get("nfe")
            observations = [policy.fake_obs(seed) for seed in range(16)]
        obs, frames = observations[0], [packb(one) for one in observations]
        frame = struct.pack(">BBQI", 0x82, 0xFF, len(frames[0]), 0) + frames[0]
        short = arguments.seconds / 4
        steps: dict[str, dict[str, Any]] = {
            "one_robot": {"robots": 1, "seconds": short},
            "load": {"robots": CLIENTS, "seconds": arguments.seconds},
            "malformed": {
                "robots": 1,
                "fault": lambda _: malformed_messages(server, obs, arguments.messages),
            },
            "killed_mid_frame": {
                "robots": 4,
                "seconds": short,
                "fault": lambda _: killed_clients(server, frame),
            },
            "slow_client": {
                "robots": 4,
                "seconds": short,
                "fault": lambda over: slow_client(server, frame, over),
            },
        }
        for name, step in steps.items():
            results[name] = asyncio.run(watch(server, frames, **step))
            print(f"{name}: {results[name]}", flush=True)
        results["restart"] = measure_restart(server, obs)
        print(f"restart: {results['restart']}")
    finally:
        server.process.terminate()
        server.process.wait(60)
    if arguments.data:
        write_json(arguments.data / "server.json", results)


if __name__ == "__main__":
    main()
