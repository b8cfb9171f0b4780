"""A policy server in a process of its own, and robots that ask it at a fixed rate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

WAIT = 30.0
START_SECONDS = 120.0


class ServerProcess:
    """``lfm-policy serve``, started, killed and started again on the same port."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._log = Path(tempfile.mkdtemp(prefix="lfm-bench-server-")) / "log.jsonl"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def start(self) -> None:
        """Start it, and return when it listens."""
        started = time.perf_counter()
        arguments = ["serve", self._policy, "--port", str(self.port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lfm_policy", *arguments],
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        while not (listening := [e for e in self.log() if e["event"] == "listening"]):
            if self._process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                raise SystemExit(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.02)
        self.port = listening[0]["port"]

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the log so far."""
        lines = self._log.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """End it in order and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def metric(self, name: str) -> float:
        """Return a metric, summed over its labels; 0 if it has not been counted yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as page:
            text = page.read().decode()
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    @property
    def resident_mb(self) -> float:
        """Resident memory in MB."""
        return self.metric("process_resident_memory_bytes") / 1e6


@contextlib.asynccontextmanager
async def joined(port: int) -> AsyncIterator[ClientConnection]:
    async with connect(
        f"ws://127.0.0.1:{port}", compression=None, max_size=None, proxy=None
    ) as websocket:
        await asyncio.wait_for(websocket.recv(), WAIT)
        yield websocket


def percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
    named = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": 1e3 * max(seconds)}
    return {name: round(float(value), 2) for name, value in named.items()}


@dataclass
class Load:
    """What some robots saw."""

    seconds: list[float] = field(default_factory=list)
    lost: int = 0


async def robot(port: int, obs: list[bytes], hz: float, until: float, load: Load) -> None:
    """Ask at a fixed rate, as a robot does; a late answer makes it skip a beat, not hurry."""
    async with joined(port) as websocket:
        beat = time.perf_counter() + np.random.default_rng().uniform(0, 1 / hz)
        number = 0
        while beat < until:
            await asyncio.sleep(max(0.0, beat - time.perf_counter()))
            started = time.perf_counter()
            try:
                await websocket.send(obs[number % len(obs)])
                answer = await asyncio.wait_for(websocket.recv(), WAIT)
            except (ConnectionClosed, TimeoutError):
                load.lost += 1
                return
            load.lost += isinstance(answer, str)
            load.seconds.append(time.perf_counter() - started)
            number += 1
            while beat <= time.perf_counter():
                beat += 1 / hz


async def measure_load(
    server: ServerProcess, obs: list[bytes], *, clients: int, hz: float, seconds: float
) -> dict[str, Any]:
    load = Load()
    calls, rows = await asyncio.to_thread(_batches, server)
    cpu = server.metric("process_cpu_seconds_total")
    until = time.perf_counter() + 1 + seconds
    await asyncio.gather(*(robot(server.port, obs, hz, until, load) for _ in range(clients)))
    calls_after, rows_after = await asyncio.to_thread(_batches, server)
    late = sum(s > 1 / hz for s in load.seconds)
    return {
        "clients": clients,
        "hz": hz,
        "seconds": seconds,
        "answers": len(load.seconds),
        **percentiles(load.seconds),
        "late": late,
        "lost": load.lost,
        "robots_per_call": round((rows_after - rows) / max(1, calls_after - calls), 2),
        "server_cpu_share": round(
            (server.metric("process_cpu_seconds_total") - cpu) / (1 + seconds), 3
        ),
        "resident_mb": round(server.resident_mb, 1),
    }


def _batches(server: ServerProcess) -> tuple[float, float]:
    return (
        server.metric("lfm_policy_batch_rows_count"),
        server.metric("lfm_policy_batch_rows_sum"),
    )
