"""Robots that ask a policy server at a fixed rate, and what they saw."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from server_process import ServerProcess
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

WAIT = 30.0


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
