"""From import to first action, and memory, of exported policies on the runtime alone.

Each run is a fresh process that imports `lfm_runtime`, opens the exported folder and answers one
observation; it fails if that imported torch.

    lfm-policy export pusht-state exported
    python scripts/bench_runtime.py exported --results docs
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from results_page import put_table
from tqdm.auto import tqdm

HEADER = (
    "| policy | threads | import to first action (s), median | slowest | of it: import | "
    "resident after 1,000 actions (MiB) |\n| --- | --- | --- | --- | --- | --- |"
)
CHILD = """
import json, resource, sys, time
start = time.perf_counter()
from lfm_runtime import OnnxPolicy
imported = time.perf_counter()
policy = OnnxPolicy(sys.argv[1], threads=int(sys.argv[2]))
obs = policy.fake_obs()
policy.select_action(obs)
acted = time.perf_counter()
for _ in range(1000):
    policy.select_action(obs)
assert "torch" not in sys.modules, "torch was imported"
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"import": imported - start, "first": acted - start, "peak_mib": peak}))
"""


def measure(folder: Path, *, threads: int, repeats: int) -> list[dict[str, Any]]:
    """Return what each of some fresh processes took; memory is the largest resident set."""
    command = [sys.executable, "-c", CHILD, str(folder), str(threads)]
    found = []
    for _ in tqdm(range(repeats), desc=str(folder), unit="process"):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{folder}:\n{done.stderr[-3000:]}")
        found.append(json.loads(done.stdout))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exported", nargs="+", type=Path, help="folders of `lfm-policy export`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10, help="processes per policy")
    parser.add_argument("--results", type=Path, help="folder of results.md to write into")
    arguments = parser.parse_args()
    lines = [HEADER]
    for folder in arguments.exported:
        runs = measure(folder, threads=arguments.threads, repeats=arguments.repeats)
        first = [run["first"] for run in runs]
        lines.append(
            f"| {folder.name} | {arguments.threads} | {median(first):.2f} | {max(first):.2f} | "
            f"{median(run['import'] for run in runs):.2f} | "
            f"{max(run['peak_mib'] for run in runs):.0f} |"
        )
    print("\n".join(lines))
    if arguments.results:
        put_table(arguments.results, "runtime", lines)


if __name__ == "__main__":
    main()
