"""Make demonstrations of a task in robomimic's format.

Scripted experts demonstrate the tasks of robosuite and Meta-World; on PushT it is the policy that
comes with the package. MT10 and MT50 are many tasks of Meta-World, each in a file of a folder.
Every episode has a demonstrator of its own, with other speed, grasps, mistakes and pauses. Only
successes are kept. Demos are ordered by their environment seeds, whatever the number of workers.
Evaluation uses seeds from 100000 (test) and from 200000 (selection).

What is finished is kept in FILE.parts; the same command goes on after an interruption.

examples:
  lfm-policy collect Lift --episodes 200 --workers 2 --output lift.hdf5
  lfm-policy collect Can --images --output can_image.hdf5
  lfm-policy collect MT10 --episodes 20 --output mt10
  lfm-policy train robomimic/lift dataset.path=lift.hdf5
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfm_policy.cli.common import (
    add_common_options,
    add_runner_options,
    key_values,
    non_negative,
    options_of,
    positive,
    print_json,
)

_TASKS = ("Lift", "Can", "Square", "ToolHang", "Transport", "PushT", "MT10", "MT50")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        metavar="TASK",
        help=f"{', '.join(_TASKS)}, or one of Meta-World's, such as reach-v3",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="HDF5 file to write; a folder for several tasks"
    )
    parser.add_argument(
        "--episodes",
        type=positive,
        default=200,
        help="demonstrations to keep of a task; default 200",
    )
    parser.add_argument(
        "--workers", type=positive, default=1, help="processes, one thread each; default 1"
    )
    add_runner_options(parser, local_cluster="a cluster on this machine")
    parser.add_argument(
        "--seed-start",
        type=non_negative,
        default=300_000,
        help="environment seed of the first episode; default 300000",
    )
    parser.add_argument("--images", action="store_true", help="record the task's cameras, too")
    parser.add_argument(
        "--image-size", type=positive, help="pixels; default 84, for PushT 96 (as its own images)"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="replay every demo and keep it only if it succeeds again (takes twice as long)",
    )
    parser.add_argument(
        "--expert-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of an expert that takes some (may be repeated)",
    )
    add_common_options(parser, seed_help="of the demonstrators' behaviour; default 0")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.collect import CollectOptions, collect
    from lfm_policy.collect.experts import GROUPS
    from lfm_policy.text.numbers import percent

    group = GROUPS.get(arguments.task)
    collected = []
    for task in group or (arguments.task,):
        options = options_of(
            CollectOptions,
            arguments,
            task=task,
            seed=arguments.seed or 0,
            image_size=arguments.image_size or 0,
            expert_options=key_values(arguments.expert_option),
        )
        done = collect(
            arguments.output / f"{task}.hdf5" if group else arguments.output,
            options,
            workers=arguments.workers,
            runner=arguments.runner,
            ray_address=arguments.ray_address,
            quiet=arguments.quiet or arguments.json,
        )
        collected.append(done)
        if not arguments.json:
            print(
                f"{task}: {done.demos} demonstrations, {done.steps:,} steps, from "
                f"{done.attempts} episodes ({percent(done.success_rate, 1)} succeeded)"
            )
            if done.crashes:
                print(f"a process died {done.crashes} times; its episodes were run again")
            print(f"written: {done.path}")
    if arguments.json:
        facts = [done.to_dict() for done in collected]
        print_json({"files": facts} if group else facts[0])
    elif group:
        mean = sum(done.success_rate for done in collected) / len(collected)
        print(f"{arguments.task}: {len(collected)} tasks, {percent(mean, 1)} succeeded on average")
    return 0
