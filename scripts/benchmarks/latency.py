"""Milliseconds per chunk at batch 1: the table of docs/results.md.

Ours from observations to actions, with all of normalisation, encoder, sampler and checks: teacher
and students of PushT state and images in PyTorch, compiled, and exported for ONNX Runtime; our
network in the loops of Diffusion Policy (DDIM with 10 steps, DDPM with 100); and LeRobot's
DiffusionPolicy, if a folder is given that holds it:

    pip install --no-deps --target lerobot-only lerobot==0.4.4 torchvision draccus ...
    python scripts/benchmarks/latency.py --lerobot lerobot-only --results docs
    python scripts/benchmarks/latency.py --policy runs/pusht-fm     # one network, and its chunks

Run it on a machine that does nothing else. All rows are measured in one run, unless it is told to
add those that are ``--missing``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_rows import ProcessError, Row, measure, run_alone
from tqdm.auto import tqdm

sys.path.append(str(Path(__file__).parents[1] / "studies"))
from results_page import publish, table_lines

ENGINES = ("eager", "compile", "onnx-fp32", "onnx-int8")
COLUMNS = (
    "what | engine | NFE | threads | ms per chunk, median | p95 | peak memory (MiB) | parameters"
)


def rows_of_table(lerobot: str) -> list[Row]:
    """Return the rows of the table of docs/results.md."""
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


def rows_of_policy(policy: str) -> list[Row]:
    """Return the rows of any policy: one evaluation of its first block's network, and chunks."""
    from lfm_policy import load_policy

    n_blocks = load_policy(policy).model.n_blocks
    chunks = [Row("chunk", "ours", policy, nfe) for nfe in (1, 2, 4, 8, 16) if nfe >= n_blocks]
    return [Row("one network evaluation", "network", policy), *chunks]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lerobot", default="", help="folder with LeRobot and what it imports")
    parser.add_argument("--policy", help="only this policy, with several numbers of evaluations")
    parser.add_argument("--only", help="rows whose label contains this")
    parser.add_argument("--results", type=Path, help="folder of results.md to write into")
    parser.add_argument("--missing", action="store_true", help="only rows not in the results yet")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        row = Row(**json.loads(arguments.row))
        print(json.dumps(measure(row, arguments.threads[0], arguments.lerobot)))
        return
    if (arguments.only or arguments.policy) and arguments.results:
        parser.error("--only and --policy would leave a table of these rows alone: no --results")
    if arguments.policy:
        rows = rows_of_policy(arguments.policy)
    else:
        rows = rows_of_table(arguments.lerobot)
    chosen = [row for row in rows if not arguments.only or arguments.only in row.label]
    archive = arguments.results and arguments.results / "results" / "latency.json"
    known = {}
    if arguments.missing and archive and archive.exists():
        known = {_identity(one): one for one in json.loads(archive.read_text())["rows"]}
    run = time.strftime("%Y-%m-%d %H:%M")
    measured, failed = [], []
    pairs = [(row, threads) for row in chosen for threads in arguments.threads]
    for row, threads in tqdm(pairs, unit="row"):
        one = known.get(_identity({**asdict(row), "threads": threads}))
        if one is None:
            command = [__file__, "--row", json.dumps(asdict(row)), "--threads", str(threads)]
            command += ["--lerobot", arguments.lerobot]
            try:
                one = run_alone(*command, threads=threads) | {"run": run}
            except ProcessError as error:  # the other rows go on
                failed.append(f"{row.label}, {row.engine}, {threads} thread(s)")
                tqdm.write(f"{failed[-1]}:\n{error}")
                continue
            tqdm.write(" | ".join(map(str, _cells(one))))
        measured.append(one)
    lines = table_lines(COLUMNS, map(_cells, measured))
    lines += ["", *_runs(measured), *_ratios(measured)]
    processor = platform.processor() or platform.machine()
    report = {"machine": f"{os.cpu_count()} CPUs, {processor}", "rows": measured}
    publish("latency", lines, arguments.results, report)
    if failed:
        raise SystemExit("not measured: " + "; ".join(failed))


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


def _cells(one: dict[str, Any]) -> tuple[object, ...]:
    return (
        one["label"],
        one["engine"] if one["kind"] == "ours" else "PyTorch",
        one["nfe"],
        one["threads"],
        f"{one['median_ms']:.3f}",
        f"{one['p95_ms']:.3f}",
        f"{one['peak_mib']:.0f}",
        f"{one['parameters']:,}",
    )


def _ratios(measured: list[dict[str, Any]]) -> list[str]:
    """Return the table of how many times longer others take than our two-step student."""
    engines = [e for e in ENGINES if any(o["engine"] == e for o in measured)]
    students = {
        (_sees(one), one["engine"], one["threads"]): one["median_ms"]
        for one in measured
        if one["label"].endswith("student")
    }
    rows = []
    for other in (one for one in measured if one["kind"] in ("diffusers", "lerobot")):
        ours = [students.get((_sees(other), engine, other["threads"])) for engine in engines]
        cells = [f"{other['median_ms'] / ms:,.0f}" if ms else "" for ms in ours]
        rows.append((other["label"], other["nfe"], other["threads"], *cells))
    if not rows:
        return []
    columns = " | ".join(["what", "NFE", "threads", *(f"student, {name}" for name in engines)])
    title = "How many times as long as our two-step student with the same observations:"
    return ["", title, "", *table_lines(columns, rows)]


def _sees(one: dict[str, Any]) -> str:
    return "image" if "image" in one["label"] else "state"


if __name__ == "__main__":
    main()
