"""The paper's robot table for one task: FM and LFM, teachers and students, two budgets of training.

Policies learn from a robomimic HDF5 file, collected (`lfm-policy collect`) or human, and are rolled
out from test seeds. FM has LFM's parameters in all and the same gradient steps. An earlier
checkpoint in time (early: a third of the steps; ninth: for Square's learning curve) is a run of its
own, learning rate decayed to 0: blocks are trained one after the other, so that half a run is not
a policy. It can be stopped and started again at any time; what is finished is kept in
docs/results/robomimic.json.

    lfm-policy collect Lift --episodes 200 --output lift.hdf5
    python scripts/robomimic_table.py lift --dataset lift.hdf5
    python scripts/robomimic_table.py square --dataset square.hdf5 --models fm lfm lfm-2
    python scripts/robomimic_table.py lift --tables-only
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from pieces import (
    Model,
    Sampler,
    Study,
    finish,
    measure,
    open_study,
    parse_study,
    study_options,
)
from results_page import put_table
from study_tables import (
    Part,
    Row,
    cells_of,
    plot_against_steps,
    pooled,
    seconds_of,
    write_part,
)

from lfm_policy.evaluation import wilson_interval

# Width of FM's network, which has about the parameters of LFM's two blocks; steps of training;
# episodes per cell.
TASKS = {
    "lift": (272, 20_000, 200),
    "can": (272, 24_000, 200),
    "square": (544, 30_000, 200),
    "tool_hang": (544, 30_000, 50),
    "transport": (544, 30_000, 50),
}
STUDENT = (
    "training.total_steps=12000",
    "distill.samples=8",
    "distill.inputs=corrected",
    "distill.tail_weight=0.1",
)
STEPS = {"lfm": "distill.teacher_steps=8", "fm": "distill.teacher_steps=16"}
FINE = {"lfm": Sampler(64, "midpoint"), "fm": Sampler(32, "midpoint")}
# A policy of the table: its label, its model, its sampler.
POLICIES = (
    *((family.upper(), family, FINE[family]) for family in ("fm", "lfm")),
    *(
        (f"{family.upper()} to {k}", f"{family}-{k}", Sampler(k))
        for family in ("fm", "lfm")
        for k in (4, 2, 1)
    ),
)
# Earlier checkpoints in time: runs of this part of the steps.
EARLIER = {"early": 3, "ninth": 9}
# Square's success against steps of training.
LEARNING = Part(
    "learning",
    rows=tuple(
        Row(family.upper(), f"{earlier}square-{family}", (FINE[family],))
        for family in ("lfm", "fm")
        for earlier in ("ninth-", "early-", "")
    ),
    plot=plot_against_steps,
)
HEADER = (
    "| task | policy | NFE | success, a third of the steps | 95% interval | success, all steps | "
    "95% interval | parameters | gradient steps | training + push-forward or teacher samples (s) "
    "|\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def models_of(task: str) -> dict[str, Model]:
    """Return the models of a task by name; with a prefix of `EARLIER`, earlier in time."""
    width, steps, _ = TASKS[task]
    config = f"robomimic/{task}"
    families = {
        "fm": ("flow.n_blocks=1", "flow.step_sizes=[]", f"network.width={width}"),
        "lfm": (),
    }
    models = {}
    for family, overrides in families.items():
        models[f"{task}-{family}"] = Model(overrides, config=config)
        for prefix, part in EARLIER.items():
            early = (*overrides, f"training.total_steps={steps // part}")
            models[f"{prefix}-{task}-{family}"] = Model(early, config=config)
        for k in (4, 2, 1):
            models[f"{task}-{family}-{k}"] = Model(
                (*STUDENT, STEPS[family]), teacher=f"{task}-{family}", nfe=k
            )
    return models


def main() -> None:
    parser = study_options(__doc__, output="runs/robomimic")
    parser.add_argument("task", choices=list(TASKS))
    names = [model for _, model, _ in POLICIES]
    names += [f"{prefix}-{family}" for prefix in EARLIER for family in FINE]
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds")
    arguments = parse_study(parser)
    studies = {
        task: open_study(models_of(task), arguments, "robomimic.json", episodes=episodes)
        for task, (_, _, episodes) in TASKS.items()
    }
    failures = measure(studies[arguments.task], _wanted(arguments), arguments)
    lines = [HEADER]
    for task, study in studies.items():
        lines += task_lines(task, study, arguments.seeds)
    print("\n".join([HEADER, *(line for line in lines if line.startswith(f"| {arguments.task} "))]))
    put_table(arguments.results, "robomimic", lines)
    write_part(LEARNING, studies["square"], arguments.results, seeds=arguments.seeds)
    finish(failures)


def _wanted(arguments: argparse.Namespace) -> list[tuple[str, int, list[Sampler]]]:
    samplers = {model: sampler for _, model, sampler in POLICIES}
    wanted = []
    for seed in arguments.seeds:
        for model in arguments.models:
            prefix, _, rest = model.partition("-")
            family, when = (rest, f"{prefix}-") if prefix in EARLIER else (model, "")
            wanted.append((f"{when}{arguments.task}-{family}", seed, [samplers[family]]))
    return wanted


def task_lines(task: str, study: Study, seeds: Iterable[int]) -> list[str]:
    """Return a task's rows of the table, from the cells that are known."""
    lines = []
    for label, model, sampler in POLICIES:
        cells = cells_of(study, f"{task}-{model}", sampler, list(seeds))
        early = []
        if f"early-{task}-{model}" in study.models:
            early = cells_of(study, f"early-{task}-{model}", sampler, list(seeds))
        if not cells:
            continue
        train, push, steps = seconds_of(cells)
        lines.append(
            f"| {task} | {label} | {cells[0]['nfe']:g} | {_success(early)} | {_success(cells)} | "
            f"{cells[0]['training']['parameters']['total']:,} | {steps:,} | "
            f"{train:.0f} + {push:.0f} |"
        )
    return lines


def _success(cells: list[dict[str, Any]]) -> str:
    if not cells:
        return " | "
    _, successes, n = pooled(cells)
    low, high = wilson_interval(successes, n)
    return f"{successes}/{n} = {successes / n:.3f} | {low:.3f} to {high:.3f}"


if __name__ == "__main__":
    main()
