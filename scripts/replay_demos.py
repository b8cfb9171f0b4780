"""Does repeating a demonstration's actions solve the task again? For every demo of some files.

Each demo starts from its first recorded state, in the environment that the file describes. Exit
status 1 if less than 99% of a file's demos succeed.

    python scripts/replay_demos.py lift.hdf5 can.hdf5 --workers 2
    python scripts/replay_demos.py square.hdf5 --demos 50 --results docs   # first 50, and the table
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
from results_page import put_table
from tqdm.auto import tqdm

from lfm_policy.data.robomimic_checks import numeric_order
from lfm_policy.evaluation import wilson_interval
from lfm_policy.files import write_json

ENOUGH = 0.99
_worker: dict[str, Any] = {}


def _open(path: str) -> None:
    from lfm_envs.robosuite_env import RobosuiteEnv

    file = h5py.File(path, "r")
    _worker.update(
        demos=file["data"], env=RobosuiteEnv(env_args=file["data"].attrs["env_args"], cameras=())
    )


def _replay(name: str) -> bool:
    """Whether the task is solved after the last action of a demo."""
    demo, env = _worker["demos"][name], _worker["env"]
    scene = {"states": demo["states"][0], "model": demo.attrs["model_file"]}
    if "ep_meta" in demo.attrs:
        scene["ep_meta"] = demo.attrs["ep_meta"]
    env.reset(options={"reset_to": scene})
    solved = False
    for action in demo["actions"][:]:
        _, _, solved, _, _ = env.step(action)
    return bool(solved)


def replay_file(path: Path, *, demos: int | None, workers: int) -> dict[str, Any]:
    """Return what a file holds and which of its demos failed when they were repeated."""
    with h5py.File(path, "r") as file:
        data = file["data"]
        names = sorted(data, key=numeric_order)
        collected = json.loads(data.attrs.get("lfm_collect", "{}"))
        facts = {
            "task": json.loads(data.attrs["env_args"])["env_name"],
            "version": collected.get("version"),
            "demos": len(names),
            "attempts": collected.get("attempts"),
            "steps": sum(int(data[name].attrs["num_samples"]) for name in names),
        }
    names = names[:demos]
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_open,
        initargs=(str(path),),
    ) as pool:
        solved = list(tqdm(pool.map(_replay, names), total=len(names), desc=str(path)))
    failed = [name for name, good in zip(names, solved, strict=True) if not good]
    return {**facts, "replayed": len(names), "failed": failed}


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the markdown table."""
    yield (
        "| task | version of the expert | demonstrations | steps | expert's successes | "
        "95% interval | solved again when replayed |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for _, facts in sorted(results.items()):
        expert = " | "
        if facts["attempts"]:
            low, high = wilson_interval(facts["demos"], facts["attempts"])
            rate = facts["demos"] / facts["attempts"]
            expert = f"{facts['demos']}/{facts['attempts']} = {rate:.3f} | {low:.3f} to {high:.3f}"
        again = facts["replayed"] - len(facts["failed"])
        yield (
            f"| {facts['task']} | {facts['version'] or ''} | {facts['demos']} | "
            f"{facts['steps']:,} | {expert} | "
            f"{again}/{facts['replayed']} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="robomimic HDF5 with states")
    parser.add_argument("--demos", type=int, help="only the first so many; default all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, help="folder of results.md to write the table into")
    arguments = parser.parse_args()
    archive = arguments.results and arguments.results / "results" / "collected.json"
    results = json.loads(archive.read_text()) if archive and archive.exists() else {}
    short = []
    for path in arguments.files:
        facts = replay_file(path, demos=arguments.demos, workers=arguments.workers)
        results[f"{facts['task']} {facts['version'] or ''}".strip()] = facts
        if len(facts["failed"]) > (1 - ENOUGH) * facts["replayed"]:
            short.append(f"{path}: {', '.join(facts['failed'])} failed")
        if archive:
            write_json(archive, results)
    lines = list(table(results))
    print("\n".join(lines))
    if arguments.results:
        put_table(arguments.results, "collected", lines)
    if short:
        raise SystemExit("\n".join(short))


if __name__ == "__main__":
    main()
