"""From import to first action, and memory, of exported policies on the runtime alone.

Each run is a fresh process that imports `lfm_runtime`, opens the exported folder and answers one
observation; it fails if that imported torch.

    lfm-policy export pusht-state exported
    python scripts/benchmarks/runtime.py exported --results docs
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

from latency import run_alone
from tqdm.auto import tqdm

sys.path.append(str(Path(__file__).parents[1] / "studies"))
from results_page import publish, table_lines

COLUMNS = (
    "policy | threads | import to first action (s), median | slowest | of it: import | "
    "resident after 1,000 actions (MiB)"
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exported", nargs="+", type=Path, help="folders of `lfm-policy export`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10, help="processes per policy")
    parser.add_argument("--results", type=Path, help="folder of results.md to write into")
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.exported:
        child = ("-c", CHILD, str(folder), str(arguments.threads))
        turns = tqdm(range(arguments.repeats), desc=str(folder), unit="process")
        runs = [run_alone(*child) for _ in turns]
        first = [run["first"] for run in runs]
        seconds = (median(first), max(first), median(run["import"] for run in runs))
        peak = max(run["peak_mib"] for run in runs)
        numbers = (*(f"{value:.2f}" for value in seconds), f"{peak:.0f}")
        rows.append((folder.name, arguments.threads, *numbers))
    publish("runtime", table_lines(COLUMNS, rows), arguments.results)


if __name__ == "__main__":
    main()
