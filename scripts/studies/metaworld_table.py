"""One policy for many tasks of Meta-World: teachers and students in MT10 or MT50, task by task.

Demonstrations are collected, a file for each task, unless they are there. The policy is told its
task by the observation `task`, trained, distilled, and rolled out from test seeds in every task.
It can be stopped and started again at any time, and --minutes stops it by itself: what is finished
is kept, and cells are in docs/results/data/metaworld.json with successes in every task. Models of
another number of demonstrations (--demos) have other names and folders, and options for a try
(--set) need places of their own (--data and --output): pages show neither.

    python scripts/studies/metaworld_table.py mt10 --collect
    python scripts/studies/metaworld_table.py mt10 --models lfm lfm-2 lfm-1 --minutes 50
    python scripts/studies/metaworld_table.py mt50 --collect --minutes 50
    python scripts/studies/metaworld_table.py mt10 --table
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from commands import Commands
from pieces import (
    DATA,
    Model,
    Sampler,
    Study,
    Wanted,
    measure,
    of_demos,
    stop_after,
    study_options,
)

from lfm_policy.collect.collect import facts_of
from lfm_policy.errors import InputError, Interrupted
from lfm_policy.text.tables import TextTable
from lfm_runtime.disk.files import write_json

ARCHIVE = "metaworld.json"
DEMONSTRATIONS = "metaworld_demonstrations.json"
RUNS = Path("runs/metaworld")
"""Run folders, unless others are named."""

EPISODES = 20
"""Demonstrations of a task, and episodes that are rolled out in it."""

ONE_BLOCK = ("flow.n_blocks=1", "flow.step_sizes=[]")
WIDTHS = {"mt10": 336, "mt50": 448}
"""Widths of one network with the parameters of LFM's three blocks."""
FAMILIES = ("lfm", "fm")
STEPS = {"lfm": Sampler(16), "fm": Sampler(16)}
STUDENTS = (2, 1)


def models_of(
    tasks: str, overrides: tuple[str, ...] = (), demos: int = EPISODES
) -> dict[str, Model]:
    """Return the models by name; ``overrides`` are options of all trainings and distillations."""
    models = {}
    for family in FAMILIES:
        teacher = name_of(tasks, family, demos)
        own = () if family == "lfm" else (*ONE_BLOCK, f"network.width={WIDTHS[tasks]}")
        models[teacher] = Model((*own, *overrides), config=f"metaworld/{tasks}")
        for nfe in STUDENTS:
            groups = {("lfm", 2): (2, 1)}.get((family, nfe), ())
            student = Model(overrides, teacher=teacher, nfe=nfe, groups=groups)
            models[name_of(tasks, f"{family}-{nfe}", demos)] = student
    return models


def name_of(tasks: str, model: str, demos: int = EPISODES) -> str:
    """Return what a model of some demonstrations of each task is called in the archive."""
    return of_demos(f"{tasks}-{model}", demos, EPISODES)


def samplers() -> dict[str, Sampler]:
    """Return how each model is evaluated, by the name of its family and its evaluations."""
    students = {f"{family}-{nfe}": Sampler(nfe) for family in FAMILIES for nfe in STUDENTS}
    return STEPS | students


def collect(tasks: str, folder: Path, episodes: int, jobs: int, facts: Path) -> None:
    """Collect what is missing of the demonstrations, and note how the experts did."""
    options = ["--episodes", str(episodes), "--workers", str(jobs), "--output", str(folder)]
    known = json.loads(facts.read_text()) if facts.exists() else {}
    shown = of_demos(tasks, episodes, EPISODES)
    new, began = not folder.exists(), time.perf_counter()
    try:
        with Commands() as commands:
            commands.run("collect", tasks.upper(), *options, "--quiet")
    except Interrupted as stopped:
        raise SystemExit(str(stopped)) from None
    if new:
        known[f"{shown} seconds"] = {"seconds": time.perf_counter() - began, "processes": jobs}
    write_json(facts, known | {shown: experts(folder)})


def experts(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return what was collected of every task: demonstrations, and attempts up to the last one.

    Raises:
        InputError: a file of the folder does not say it.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob("*.hdf5")):
        if (facts := facts_of(path)) is None:
            raise InputError(f"{path}: it does not say how it was collected")
        found[path.stem] = {"demos": facts["episodes"], "attempts": facts["attempts"]}
    return found


def print_table(data: Path, tasks: str) -> None:
    """Print the mean over tasks of every model and training seed, and the tasks that fail most."""
    if not data.exists():
        raise SystemExit(f"{data}: nothing has been measured")
    table = TextTable("policy", "NFE", "mean over tasks", "worst tasks", title=tasks.upper())
    for key, cell in json.loads(data.read_text()).items():
        if not key.startswith(f"{tasks}-"):
            continue
        rates = {name: t["success_rate"] for name, t in cell["summary"]["tasks"].items()}
        worst = sorted(rates, key=lambda name: rates[name])[:3]
        said = ", ".join(f"{name} {rates[name]:.2f}" for name in worst)
        mean = float(np.mean(list(rates.values())))
        table.add_row(key.rpartition(" n")[0], f"{cell['nfe']:g}", f"{mean:.3f}", said)
    table.print()


def main() -> None:
    parser = study_options(__doc__)
    how = samplers()
    parser.add_argument("tasks", choices=["mt10", "mt50"])
    parser.add_argument("--models", nargs="+", choices=list(how), default=list(how))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="in each task; default 20")
    parser.add_argument("--demos", type=int, default=EPISODES, help="of each task; default 20")
    parser.add_argument("--collect", action="store_true", help="collect what is missing first")
    parser.add_argument("--minutes", type=float, help="stop after so long; the same call goes on")
    parser.add_argument("--set", nargs="+", default=[], help="options of all models, for a try")
    parser.add_argument("--table", action="store_true", help="print what is known, and run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print_table(arguments.data / ARCHIVE, arguments.tasks)
        return
    usual = ((arguments.data, DATA), (arguments.output or RUNS, RUNS))
    if arguments.set and any(given.resolve() == place.resolve() for given, place in usual):
        parser.error("--set is for a try: give it folders of its own, --data and --output")
    shown = of_demos(arguments.tasks, arguments.demos, EPISODES)
    arguments.dataset = arguments.dataset or Path("data/metaworld") / shown
    stop_after(arguments.minutes)
    if arguments.collect:
        facts = arguments.data / DEMONSTRATIONS
        collect(arguments.tasks, arguments.dataset, arguments.demos, arguments.jobs, facts)
    study = Study(
        models_of(arguments.tasks, tuple(arguments.set), arguments.demos),
        arguments,
        ARCHIVE,
        output=RUNS,
        episodes=arguments.episodes,
    )
    wanted: list[Wanted] = [
        (name_of(arguments.tasks, model, arguments.demos), seed, [how[model]])
        for seed, model in product(arguments.seeds, arguments.models)
    ]
    if failures := measure(study, wanted, arguments):
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()
