"""Jerk and success on PushT when every chunk takes 0 to 400 ms, for each way to join chunks.

    python scripts/studies/delays.py runs/pusht-lfm-prefix/student-nfe2-regression --output it.json

Time is simulated: a chunk takes exactly as long as it is told to, and an episode as long as it
takes to compute. Cells that are in the file already are not measured again; that of the pages is
docs/results/data/delays.json, and `scripts/results/write.py` makes them of it. A policy trained
with policy.max_prefix is needed for the joining `prefix`, such as configs/pusht/lfm_prefix.yaml:

    lfm-policy train pusht/lfm_prefix dataset.path=pusht_cchi_v7_replay.zarr
    lfm-policy distill runs/pusht-lfm-prefix --nfe 2 distill.inputs=corrected \
        distill.tail_weight=0.1
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pieces import SELECTION_SEEDS
from tqdm.auto import tqdm

from lfm_policy.control import run_episode
from lfm_policy.environments import make_env
from lfm_policy.open_policy import open_policy
from lfm_runtime.control import ControlOptions
from lfm_runtime.disk.files import write_json

JOININGS = ("wait", "replace", "ensemble", "prefix")
EXECUTE = 8
"""Actions of a chunk."""


def options_of(name: str, periods: int) -> ControlOptions:
    """Return the loop's options for a joining and a delay in whole periods."""
    if name == "wait":
        return ControlOptions(execute=EXECUTE)
    # A prefix is worth having even if there is no delay.
    lead = {"replace": periods, "prefix": max(periods, 1)}.get(name)
    return ControlOptions(joining=name, execute=EXECUTE, lead=lead)


def measure(policy: Any, env: Any, name: str, delay_ms: float, settings: Any) -> dict[str, Any]:
    """Return the episodes of one cell."""
    options = options_of(name, math.ceil(delay_ms / 1e3 * settings.hz - 1e-9))
    episodes = []
    for episode in tqdm(range(settings.episodes), desc=f"{name}, {delay_ms:g} ms", leave=False):
        policy.sample_seed(0, episode)
        outcome = run_episode(
            policy,
            env,
            hz=settings.hz,
            seed=settings.seed_start + episode,
            options=options,
            delay=delay_ms / 1e3,
            simulated=True,
            position_key="agent_pos",
        )
        control = outcome.control
        episodes.append(
            {
                "success": outcome.success,
                "score": outcome.max_reward,
                "steps": outcome.steps,
                "action_jerk": outcome.action_jerk,
                "position_jerk": outcome.position_jerk,
                "chunks": len(control.delays),
                "consumed": float(np.mean(control.delays)),
                "held": control.held,
            }
        )
    return {"joining": name, "delay_ms": delay_ms, "lead": options.lead, "episodes": episodes}


def described(cell: dict[str, Any]) -> str:
    """Return a cell in words."""
    n = len(cell["episodes"])
    solved = sum(episode["success"] for episode in cell["episodes"])
    score, jerk, held = (
        float(np.mean([episode[name] for episode in cell["episodes"]]))
        for name in ("score", "action_jerk", "held")
    )
    return (
        f"{cell['joining']}, {cell['delay_ms']:g} ms: {solved}/{n} solved, score {score:.3f}, "
        f"jerk of actions {jerk / 1e3:.1f} (1000 px/s³), {held:.1f} ticks held"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", help="checkpoint, run folder or exported folder")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--joinings", nargs="+", choices=JOININGS, default=list(JOININGS))
    parser.add_argument("--delays", type=float, nargs="+", default=[0, 50, 100, 200, 400])
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed-start", type=int, default=SELECTION_SEEDS)
    parser.add_argument("--hz", type=float, default=10.0)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    path = settings.output
    facts = {"policy": Path(settings.policy).name} | {
        key: getattr(settings, key) for key in ("episodes", "seed_start", "hz")
    }
    results: dict[str, Any] = {**facts, "cells": []}
    if path.exists():
        results = json.loads(path.read_text())
        changed = [key for key, value in facts.items() if results[key] != value]
        if changed:
            parser.error(f"{path} was measured with other {', '.join(changed)}")
    cells = results["cells"]
    known = {(cell["joining"], cell["delay_ms"]) for cell in cells}
    policy = open_policy(settings.policy)
    with make_env("lfm/PushT-v0") as env:
        for delay in settings.delays:
            for name in settings.joinings:
                if (name, delay) not in known:
                    cells.append(measure(policy, env, name, delay, settings))
                    write_json(path, results)
    print("\n".join(map(described, cells)))


if __name__ == "__main__":
    main()
