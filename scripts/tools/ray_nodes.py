"""Roll a policy out on a Ray cluster of two nodes, one of which is killed meanwhile.

Both nodes are processes of this machine, of one CPU each. The command of docs/guides/machines.md
is run on them; when the second node is rolling out its first episodes, all its processes are
killed. In the end the results are compared with those of this machine alone, episode by episode.

  python scripts/tools/ray_nodes.py pusht-state --episodes 40
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SECONDS_TO_BEGIN = 300.0
OBJECT_STORE_BYTES = 128 * 2**20


def main(arguments: list[str] | None = None) -> int:
    """Run it; returns 0 if the results are the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("policy", help="checkpoint, run, or policy of the package")
    parser.add_argument("--episodes", type=int, default=40, help="how many; default 40")
    parser.add_argument("--max-episode-steps", type=int, default=300, help="default 300")
    parser.add_argument("--keep", action="store_true", help="kill no node")
    options = parser.parse_args(arguments)
    # Ray makes its workers wait for everything else on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    one = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=dict(one))
    try:
        second = cluster.add_node(**one)
        cluster.wait_for_nodes()
        print(f"cluster at {cluster.address}: {len(cluster.list_all_nodes())} nodes", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = _command(options, Path(folder) / "ray")
            command += ["--runner", "ray", "--ray-address", cluster.address]
            print("$", *command[2:], flush=True)
            with subprocess.Popen([sys.executable, *command]) as run:
                if not options.keep:
                    _kill_when_busy(cluster, second, run)
            if run.returncode:
                return run.returncode
            there = _episodes(Path(folder) / "ray")
            subprocess.run([sys.executable, *_command(options, Path(folder) / "here")], check=True)
            here = _episodes(Path(folder) / "here")
    finally:
        cluster.shutdown()
    again = [episode["episode"] for episode in there if episode.pop("restarts")]
    same = there == [{k: v for k, v in e.items() if k != "restarts"} for e in here]
    print(
        f"{len(there)} episodes on two nodes: {'the same' if same else 'NOT THE SAME'} as on this "
        f"machine; {len(again)} began again because their node was lost: {again}"
    )
    return 0 if same and (options.keep or again) else 1


def _command(options: argparse.Namespace, output: Path) -> list[str]:
    return [
        *("-m", "lfm_policy", "eval", options.policy, "--episodes", str(options.episodes)),
        *("--max-episode-steps", str(options.max_episode_steps)),
        *("--output", str(output), "--quiet"),
    ]


def _episodes(folder: Path) -> list[dict[str, Any]]:
    (cell,) = json.loads((folder / "eval.json").read_text(encoding="utf-8"))["cells"]
    episodes: list[dict[str, Any]] = cell["episodes"]
    return episodes


def _kill_when_busy(cluster: Any, node: Any, run: subprocess.Popen[bytes]) -> None:
    """Kill a node once it rolls something out; nothing where the run has ended before."""
    import psutil  # type: ignore[import-untyped]  # which comes with accelerate

    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    end = time.monotonic() + SECONDS_TO_BEGIN
    while run.poll() is None and time.monotonic() < end:
        names = [" ".join(child.cmdline()) for child in raylet.children(recursive=True)]
        if any("ray::_roll_out" in name for name in names):
            time.sleep(1)  # amid its first episodes
            cluster.remove_node(node, allow_graceful=False)
            print(f"killed the node of process {raylet.pid} while it rolled out", flush=True)
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
