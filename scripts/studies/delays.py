"""Jerk and success on PushT when every chunk takes 0 to 400 ms, for each way to join chunks.

    python scripts/studies/delays.py runs/pusht-lfm-prefix/student-nfe2-regression --output delays

Time is simulated: a chunk takes exactly as long as it is told to, and an episode as long as it
takes to compute. Cells that are in the results already are not measured again. A policy trained
with policy.max_prefix is needed for the joining `prefix`, such as configs/pusht/lfm_prefix.yaml:

    lfm-policy train pusht/lfm_prefix dataset.path=pusht_cchi_v7_replay.zarr
    lfm-policy distill runs/pusht-lfm-prefix --nfe 2 distill.inputs=corrected \
        distill.tail_weight=0.1
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pieces import SELECTION_SEEDS
from results_page import publish, table_lines
from study_tables import rates_of
from tqdm.auto import tqdm

from lfm_policy.control import run_episode
from lfm_policy.environments import make_env
from lfm_policy.evaluation import paired_bootstrap, wilson_interval
from lfm_policy.open_policy import open_policy
from lfm_runtime.control import ControlOptions
from lfm_runtime.disk.files import atomic_file, write_json, write_text

LABELS = {
    "wait": "stand still and wait",
    "replace": "replace",
    "ensemble": "temporal ensembling",
    "prefix": "prefix conditioning",
}
MEANS = {"score": 1.0, "action_jerk": 1e-3, "position_jerk": 1e-3}
"""What is drawn beside success, and its scale."""
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


def column(cell: dict[str, Any], name: str) -> list[Any]:
    return [episode[name] for episode in cell["episodes"]]


COLUMNS = (
    "delay (ms) | joining | success | 95% interval | score | "
    "score against replace, 95% interval | jerk of actions | jerk of the agent | "
    "held ticks"
)


def table(cells: list[dict[str, Any]], hz: float) -> list[str]:
    """Return a markdown table; jerks are in 1000 pixels per second cubed."""
    rows = []
    reference = {cell["delay_ms"]: cell for cell in cells if cell["joining"] == "replace"}
    for cell in sorted(cells, key=lambda c: (c["delay_ms"], list(LABELS).index(c["joining"]))):
        successes = column(cell, "success")
        low, high = wilson_interval(sum(successes), len(successes))
        other = reference.get(cell["delay_ms"])
        against = "-"
        if other is not None and other is not cell:
            interval = paired_bootstrap(column(cell, "score"), column(other, "score"))
            against = f"{interval.low:+.3f} to {interval.high:+.3f}"
        rows.append(
            (
                f"{cell['delay_ms']:g}",
                LABELS[cell["joining"]],
                f"{sum(successes)}/{len(successes)}",
                f"{low:.2f} to {high:.2f}",
                f"{np.mean(column(cell, 'score')):.3f}",
                against,
                f"{np.mean(column(cell, 'action_jerk')) / 1e3:.1f}",
                f"{np.mean(column(cell, 'position_jerk')) / 1e3:.1f}",
                f"{np.mean(column(cell, 'held')):.1f}",
                "every step" if cell["joining"] == "ensemble" else cell["lead"] or 0,
            )
        )
    return table_lines(f"{COLUMNS} | at {hz:g} Hz: lead", rows)


def figure(cells: list[dict[str, Any]], title: str) -> Figure:
    """Return success, score and both jerks against the delay."""
    drawn = Figure(figsize=(13, 3.6), layout="constrained")
    drawn.suptitle(title)
    panels: Any = drawn.subplots(1, 4)
    for name, label in LABELS.items():
        own = sorted((c for c in cells if c["joining"] == name), key=lambda c: c["delay_ms"])
        if not own:
            continue
        delays = [cell["delay_ms"] for cell in own]
        successes = [column(cell, "success") for cell in own]
        rates, spread = rates_of([(sum(s), len(s)) for s in successes])
        panels[0].errorbar(delays, rates, yerr=spread, marker="o", capsize=2, label=label)
        for axes, (key, scale) in zip(panels[1:], MEANS.items(), strict=True):
            means = [scale * np.mean(column(cell, key)) for cell in own]
            axes.plot(delays, means, marker="o", label=label)
    names = ("success", "score", "jerk of actions (1000 px/s³)", "jerk of the agent (1000 px/s³)")
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("delay of a chunk (ms)")
        axes.set_ylim(bottom=0)
    panels[0].legend(fontsize=7)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", help="checkpoint, run folder or exported folder")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--results", type=Path, help="folder of results.md to write into")
    parser.add_argument("--joinings", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--delays", type=float, nargs="+", default=[0, 50, 100, 200, 400])
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed-start", type=int, default=SELECTION_SEEDS)
    parser.add_argument("--hz", type=float, default=10.0)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    path = settings.output / "delays.json"
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
    lines = table(cells, settings.hz)
    write_text(settings.output / "delays.md", "\n".join([*lines, ""]))
    with atomic_file(settings.output / "delays.png") as temporary:
        figure(cells, f"PushT, n = {settings.episodes}").savefig(temporary, dpi=110)
    publish("delays", lines, settings.results, results)
    if settings.results is not None:
        shutil.copyfile(settings.output / "delays.png", settings.results / "results" / "delays.png")


if __name__ == "__main__":
    main()
