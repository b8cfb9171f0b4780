"""Milliseconds per chunk at batch 1: the table of docs/results.md.

Ours from observations to actions, with all of normalisation, encoder, sampler and checks: teacher
and students of PushT state and images in PyTorch, compiled, and exported for ONNX Runtime; our
network in the loops of Diffusion Policy (DDIM with 10 steps, DDPM with 100); and LeRobot's
DiffusionPolicy, if a folder is given that holds it:

    pip install --no-deps --target lerobot-only lerobot==0.4.4 torchvision draccus ...
    python scripts/bench_latency.py --lerobot lerobot-only --results docs

Run it on a machine that does nothing else. All rows are measured in one run, unless it is told to
add those that are ``--missing``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_rows import Row, measure
from results_page import put_table
from tqdm.auto import tqdm

from lfm_runtime.disk.files import write_json

ENGINES = ("eager", "compile", "onnx-fp32", "onnx-int8")


def rows(lerobot: str) -> list[Row]:
    """Return the rows of the table."""
    found = []
    for name, title, teacher, sampler, student in (
        ("state", "teacher", "pusht-state-teacher", (6, "euler"), "pusht-state"),
        ("image", "as many steps", "pusht-image", (64, "midpoint"), "pusht-image"),
    ):
        for engine in ENGINES:
            found += [
                Row(f"PushT {name}, {title}", "ours", teacher, *sampler, engine, repeats=100),
                Row(f"PushT {name}", "ours", student, 4, engine=engine),
                Row(f"PushT {name}, student", "ours", student, 2, engine=engine),
                Row(f"PushT {name}, one block", "ours", student, 1, engine=engine, one_block=True),
            ]
        for scheduler, nfe in (("DDIMScheduler", 10), ("DDPMScheduler", 100)):
            label = f"PushT {name}, {scheduler.removesuffix('Scheduler')}"
            found.append(
                Row(label, "diffusers", student, nfe, scheduler, one_block=True, repeats=50)
            )
    if lerobot:
        label = "LeRobot DiffusionPolicy, PushT image, "
        found += [
            Row(f"{label}DDIM", "lerobot", nfe=10, solver="DDIM", repeats=5),
            Row(f"{label}DDPM", "lerobot", nfe=100, solver="DDPM", repeats=2),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lerobot", default="", help="folder with LeRobot and what it imports")
    parser.add_argument("--only", help="rows whose label contains this")
    parser.add_argument("--results", type=Path, help="folder of results.md to write into")
    parser.add_argument("--missing", action="store_true", help="only rows not in the results yet")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        row = Row(**json.loads(arguments.row))
        print(json.dumps(measure(row, arguments.threads[0], arguments.lerobot)))
        return
    if arguments.only and arguments.results:
        parser.error("--only would leave a table of these rows alone: leave out --results")
    chosen = [r for r in rows(arguments.lerobot) if not arguments.only or arguments.only in r.label]
    archive = arguments.results and arguments.results / "results" / "latency.json"
    earlier = []
    if arguments.missing and archive and archive.exists():
        earlier = json.loads(archive.read_text())["rows"]
    known = {_identity(one): one for one in earlier}
    run = time.strftime("%Y-%m-%d %H:%M")
    measured, failed = [], []
    pairs = [(row, threads) for row in chosen for threads in arguments.threads]
    for row, threads in tqdm(pairs, unit="row"):
        if (one := known.get(_identity({**asdict(row), "threads": threads}))) is not None:
            measured.append(one)
            continue
        try:
            one = _measure_alone(row, threads, arguments.lerobot) | {"run": run}
        except RowError as error:
            tqdm.write(str(error))
            failed.append(f"{row.label}, {row.engine}, {threads} thread(s)")
            continue
        measured.append(one)
        tqdm.write(_line(one))
    lines = [HEADER, *(_line(one) for one in measured), "", *_runs(measured), *_ratios(measured)]
    print("\n".join(lines))
    if archive:
        processor = platform.processor() or platform.machine()
        report = {"machine": f"{os.cpu_count()} CPUs, {processor}", "rows": measured}
        write_json(archive, report)
        put_table(arguments.results, "latency", lines)
    if failed:
        raise SystemExit("not measured: " + "; ".join(failed))


HEADER = (
    "| what | engine | NFE | threads | ms per chunk, median | p95 | peak memory (MiB) | parameters "
    "|\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


class RowError(Exception):
    """A row's process failed; the others go on."""


def _measure_alone(row: Row, threads: int, lerobot: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--row", json.dumps(asdict(row))]
    command += ["--threads", str(threads), "--lerobot", lerobot]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RowError(f"{row.label}, {row.engine}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _identity(one: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(one[key] for key in ("label", "engine", "nfe", "solver", "threads"))


def _runs(measured: list[dict[str, Any]]) -> list[str]:
    """Say so if the rows are not all of one run."""
    runs = sorted({one["run"] for one in measured})
    return [
        f"- measured on {run}: "
        + ", ".join(
            dict.fromkeys(f"{o['label']} ({o['engine']})" for o in measured if o["run"] == run)
        )
        for run in runs[1:]
    ]


def _line(one: dict[str, Any]) -> str:
    engine = one["engine"] if one["kind"] == "ours" else "PyTorch"
    return (
        f"| {one['label']} | {engine} | {one['nfe']} | {one['threads']} | "
        f"{one['median_ms']:.3f} | {one['p95_ms']:.3f} | {one['peak_mib']:.0f} | "
        f"{one['parameters']:,} |"
    )


def _ratios(measured: list[dict[str, Any]]) -> list[str]:
    """Return the table of how many times longer others take than our two-step student."""
    engines = [e for e in ENGINES if any(o["engine"] == e for o in measured)]
    students = {
        (_sees(one), one["engine"], one["threads"]): one["median_ms"]
        for one in measured
        if one["label"].endswith("student")
    }
    lines = []
    for other in (one for one in measured if one["kind"] != "ours"):
        ours = [students.get((_sees(other), engine, other["threads"])) for engine in engines]
        cells = [f"{other['median_ms'] / ms:,.0f}" if ms else "" for ms in ours]
        line = [other["label"], str(other["nfe"]), str(other["threads"]), *cells]
        lines.append(f"| {' | '.join(line)} |")
    if not lines:
        return []
    titles = [f"student, {engine}" for engine in engines]
    return [
        "",
        "How many times as long as our two-step student with the same observations:",
        "",
        f"| what | NFE | threads | {' | '.join(titles)} |",
        "| --- " * (3 + len(engines)) + "|",
        *lines,
    ]


def _sees(one: dict[str, Any]) -> str:
    return "image" if "image" in one["label"] else "state"


if __name__ == "__main__":
    main()
