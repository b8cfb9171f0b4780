"""Load and faults of the policy server: a process that serves, and this one that is its clients.

Both run on this machine, so the clients take time from the server. Latency is from the moment an
observation is sent to its answer being read; an answer that takes longer than a period is late.

    python scripts/benchmarks/server.py pusht-state
    python scripts/benchmarks/server.py pusht-state --quick          # seconds instead of minutes
    python scripts/benchmarks/server.py pusht-state --results docs
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server_faults import (
    attacks,
    killed_clients,
    measure_beside,
    measure_malformed,
    measure_restart,
    slow_client,
)
from server_load import ServerProcess, measure_load

from lfm_runtime import WebsocketClientPolicy
from lfm_runtime.wire.packing import packb

sys.path.append(str(Path(__file__).parents[1] / "studies"))
from results_page import publish, table_lines

COLUMNS = "robots at the server | p50 (ms) | p95 | p99 | longest | late | lost"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", help="checkpoint, export, or a policy of the package")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--messages", type=int, default=10_000, help="malformed ones")
    parser.add_argument("--quick", action="store_true", help="everything much smaller")
    parser.add_argument("--results", type=Path, help="folder of results.md to write into")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.messages = 5.0, 700
    results: dict[str, Any] = {
        "policy": arguments.policy,
        "cpus": os.cpu_count(),
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
    }
    with ServerProcess(arguments.policy) as server:
        with WebsocketClientPolicy(port=server.port) as policy:
            frames = [policy.fake_obs(seed) for seed in range(16)]
            results["nfe"] = policy.metadata["nfe"]
        obs, good = frames[0], [packb(frame) for frame in frames]
        half = arguments.seconds / 4
        steps: dict[str, Any] = {
            "one_robot": lambda: measure_load(
                server, good, clients=1, hz=arguments.hz, seconds=half
            ),
            "load": lambda: measure_load(
                server, good, clients=arguments.clients, hz=arguments.hz, seconds=arguments.seconds
            ),
            "malformed": lambda: measure_malformed(server, obs, good, arguments.messages),
            "killed_mid_frame": lambda: measure_beside(
                server, good, killed_clients(server, good[0], 500), half
            ),
            "slow_client": lambda: measure_beside(server, good, slow_client(server, good[0]), half),
        }
        for name, step in steps.items():
            results[name] = asyncio.run(step())
            print(f"{name}: {results[name]}", flush=True)
        results["attacks"] = {
            name: asyncio.run(measure_beside(server, good, what, half / 2))
            for name, what in attacks(server).items()
        }
        print(f"attacks: {results['attacks']}", flush=True)
        results["restart"] = measure_restart(server, obs)
        print(f"restart: {results['restart']}")
        results["exit_code"] = server.terminate()
    print(f"exit code after SIGTERM: {results['exit_code']}")
    publish("server", [*table(results), "", *remarks(results)], arguments.results, results)


def table(results: dict[str, Any]) -> list[str]:
    """Return the lines of the markdown table."""
    load, malformed = results["load"], results["malformed"]
    rows = (
        ("1", results["one_robot"]),
        (f"{load['clients']}", load),
        (f"1, beside {malformed['messages']:,} malformed messages", malformed["bystander"]),
        ("4, beside 500 clients killed in the middle of a frame", results["killed_mid_frame"]),
        ("4, beside a client that sends and reads slowly", results["slow_client"]),
        *((f"4, beside {name}, again and again", s) for name, s in results["attacks"].items()),
    )
    measured = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
    cells = [
        (label, *(f"{seen[key]:.1f}" for key in measured), seen.get("late", ""), seen["lost"])
        for label, seen in rows
    ]
    return table_lines(COLUMNS, cells)


def remarks(results: dict[str, Any]) -> Iterator[str]:
    """Yield what else is to be said."""
    load, malformed, restart = results["load"], results["malformed"], results["restart"]
    yield (
        f"- {load['clients']} robots at {load['hz']:g} Hz for {load['seconds']:g} s: "
        f"{load['answers']:,} answers, {load['robots_per_call']} robots per call of the policy, "
        f"{load['server_cpu_share']:.0%} of one core, {load['resident_mb']:.0f} MB resident"
    )
    yield (
        f"- malformed messages: {malformed['refused_with_text']:,} of {malformed['messages']:,} "
        f"answered with the protocol's error, {malformed['closed_with_1011']:,} closed with 1011, "
        f"{malformed['internal_errors']} internal errors; resident memory "
        f"{malformed['resident_mb_first_tenth']:.0f} MB after a tenth of them, "
        f"{malformed['resident_mb_last']:.0f} MB at the end"
    )
    resumed = restart["resumed_seconds_after_listening"]
    yield (
        f"- server killed under a control loop and down for {restart['down_seconds']:.1f} s: the "
        f"robot went on with its chunk for {restart['moved_after_kill_seconds']:.2f} s, held, and "
        + ("never resumed" if resumed is None else f"resumed {resumed:.2f} s after it was back")
    )


if __name__ == "__main__":
    main()
