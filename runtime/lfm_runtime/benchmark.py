"""How fast an exported policy is on this computer, with nothing installed but this distribution.

    python -m lfm_runtime.benchmark exported --threads 1

Each of a few fresh processes imports `lfm_runtime`, opens the exported folder, answers a first
observation and then computes chunks, one at a time, from checked observations to actions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lfm_runtime.disk.files import write_json
from lfm_runtime.errors import InputError

_ABOUT = (
    "python -m lfm_runtime.benchmark: fresh processes without torch that import lfm_runtime, open "
    "an exported folder, answer the first observation, and compute chunks one at a time"
)
# A text and no function of this module, whose imports would be counted.
_CHILD = """
import json, sys, time
start = time.perf_counter()
from lfm_runtime import OnnxPolicy
imported = time.perf_counter()
policy = OnnxPolicy(sys.argv[1], threads=int(sys.argv[2]))
policy.select_action(policy.fake_obs())
acted = time.perf_counter()
from lfm_runtime.benchmark import peak_mib, timed
batch = policy.fake_batch()
milliseconds = timed(lambda: policy.sample(batch), int(sys.argv[3]))
assert "torch" not in sys.modules, "torch was imported"
print(json.dumps({
    "import": imported - start, "first": acted - start, "ms": milliseconds, "peak_mib": peak_mib()
}))
"""


def measure(
    folder: str | Path, *, threads: int = 1, processes: int = 5, chunks: int = 200
) -> dict[str, Any]:
    """Return how long chunks and the start of an exported policy take here, as JSON values.

    Args:
        folder: that ``lfm-policy export`` wrote.
        threads: CPU threads of a call.
        processes: fresh processes, each of which starts once.
        chunks: timed in each of them.

    Raises:
        InputError: there is no export, or it is damaged.
        CalledProcessError: a process failed; what it wrote to stderr has been printed.
    """
    from lfm_runtime.export.onnx_policy import OnnxPolicy

    policy = OnnxPolicy(folder, threads=threads)  # what is wrong with it is said once, and here
    arguments = ("-c", _CHILD, str(folder), str(threads), str(chunks))
    runs = [run_alone(*arguments, threads=threads) for _ in range(processes)]
    milliseconds = [ms for run in runs for ms in run["ms"]]
    first = [run["first"] for run in runs]
    peaks = [run["peak_mib"] for run in runs if run["peak_mib"] is not None]
    return {
        "folder": Path(folder).resolve().name,
        "policy": policy.description.name,
        "nfe": policy.nfe,
        "precision": policy.description.precision,
        "parameters": policy.description.parameters.get("total"),
        "threads": threads,
        "processes": processes,
        "chunks": len(milliseconds),
        "median_ms": float(np.median(milliseconds)),
        "p95_ms": float(np.percentile(milliseconds, 95)),
        "import_seconds": float(np.median([run["import"] for run in runs])),
        "first_action_seconds": float(np.median(first)),
        "slowest_first_action_seconds": max(first),
        "peak_mib": max(peaks) if peaks else None,
        "computer": computer(),
    }


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the milliseconds of each of some calls, after a few that are not timed."""
    for _ in range(max(2, repeats // 10)):
        call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - start))
    return found


def run_alone(*arguments: str, threads: int = 1) -> dict[str, Any]:
    """Run Python in a process of its own; returns the JSON of the last line that it prints.

    Raises:
        CalledProcessError: it failed; what it wrote to stderr has been printed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_mib() -> float | None:
    """Return the most memory that this process had, in MiB; None where the system keeps none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024**2 if sys.platform == "darwin" else 1024)


def computer() -> dict[str, Any]:
    """Return what a time was measured on."""
    return {"processor": processor(), "cpus": os.cpu_count(), "python": platform.python_version()}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of this computer's processor, or of its board where only that is known.

    Args:
        cpuinfo: where Linux tells of it.
    """
    said: dict[str, str] = {}
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        pairs = (line.partition(":") for line in lines)
        said = {name.strip(): value.strip() for name, _, value in pairs}
    # "model name" on x86, "Model" on a Raspberry Pi.
    name = said.get("model name") or said.get("Model") or platform.processor()
    return name or platform.machine()


def described(found: dict[str, Any]) -> str:
    """Return what `measure` found, in words."""
    peak = "" if found["peak_mib"] is None else f"\nmemory  {found['peak_mib']:.0f} MiB at most"
    return (
        f"{found['folder']} ({found['policy']}): {found['nfe']} evaluation(s) per chunk, "
        f"{found['precision']}, {found['threads']} thread(s) of {found['computer']['processor']}\n"
        f"chunk   {found['median_ms']:.2f} ms median, {found['p95_ms']:.2f} ms p95 "
        f"({found['chunks']:,} chunks in {found['processes']} processes)\n"
        f"start   {found['first_action_seconds']:.2f} s from import to the first action "
        f"(slowest {found['slowest_first_action_seconds']:.2f} s), of it "
        f"{found['import_seconds']:.2f} s the import{peak}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure exported folders and print what was found."""
    parser = argparse.ArgumentParser(
        prog="python -m lfm_runtime.benchmark",
        description="How fast exported policies are on this computer.",
    )
    parser.add_argument("exported", nargs="+", help="folders that `lfm-policy export` wrote")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads of a call")
    parser.add_argument("--processes", type=_positive, default=5, help="fresh starts of each")
    parser.add_argument("--chunks", type=_positive, default=200, help="timed in each process")
    parser.add_argument("--json", type=Path, help="file to write what was found to")
    options = parser.parse_args(arguments)
    found = []
    for folder in options.exported:
        try:
            one = measure(
                folder,
                threads=options.threads,
                processes=options.processes,
                chunks=options.chunks,
            )
        except InputError as error:
            print(error, file=sys.stderr)
            return 2
        print(described(one), flush=True)
        found.append(one)
    if options.json:
        write_json(options.json, {"about": _ABOUT, "rows": found})
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
