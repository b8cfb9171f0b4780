"""Does repeating a demonstration's actions solve the task again? For every demo of some files.

Each demo starts from its first recorded state, in the environment that the file describes. Exit
status 1 if less than 99% of a file's demos succeed.

    python scripts/studies/replay_demos.py lift.hdf5 can.hdf5 --workers 2
    python scripts/studies/replay_demos.py square.hdf5 --demos 50 --data docs/results/data
    python scripts/results/write.py                                      # the page, of the data
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lfm_policy.collect.collect import facts_of
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_runtime.disk.files import write_json

ENOUGH = 0.99
_worker: dict[str, Any] = {}


def _open(path: str) -> None:
    from lfm_envs.robosuite.env import RobosuiteEnv

    file = RobomimicFile(path)
    _worker.update(file=file, env=RobosuiteEnv(env_args=file.env_args(), cameras=()))


def _replay(name: str) -> bool:
    """Whether the task is solved after the last action of a demo."""
    file, env = _worker["file"], _worker["env"]
    lengths = file.lengths([name], "actions")
    actions, states = (
        file.read([name], key, lengths, file.info([name], key, lengths, ranks=(2,)))
        for key in ("actions", "states")
    )
    scene = {"states": states[0], "model": file.text(name, "model_file")}
    if meta := file.text(name, "ep_meta"):
        scene["ep_meta"] = meta
    env.reset(options={"reset_to": scene})
    solved = False
    for action in actions:
        _, _, solved, _, _ = env.step(action)
    return bool(solved)


def replay_file(path: Path, *, demos: int | None, workers: int) -> dict[str, Any]:
    """Return what a file holds and which of its demos failed when they were repeated."""
    collected = facts_of(path) or {}
    with RobomimicFile(path) as file:
        names = list(file.demos)
        facts = {
            "task": file.env_args()["env_name"],
            "version": collected.get("version"),
            "demos": len(names),
            "attempts": collected.get("attempts"),
            "steps": sum(file.num_samples(name) for name in names),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="robomimic HDF5 with states")
    parser.add_argument("--demos", type=int, help="only the first so many; default all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder to write collected.json into")
    arguments = parser.parse_args()
    archive = arguments.data and arguments.data / "collected.json"
    results = json.loads(archive.read_text()) if archive and archive.exists() else {}
    short = []
    for path in arguments.files:
        facts = replay_file(path, demos=arguments.demos, workers=arguments.workers)
        results[f"{facts['task']} {facts['version'] or ''}".strip()] = facts
        if len(facts["failed"]) > (1 - ENOUGH) * facts["replayed"]:
            short.append(f"{path}: {', '.join(facts['failed'])} failed")
        again = facts["replayed"] - len(facts["failed"])
        print(
            f"{path}: {facts['demos']} demos of {facts['attempts'] or 'unknown'} attempts, "
            f"{facts['steps']:,} steps; {again} of {facts['replayed']} solved again"
        )
        if archive:
            write_json(archive, results)
    if short:
        raise SystemExit("\n".join(short))


if __name__ == "__main__":
    main()
