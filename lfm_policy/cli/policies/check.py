"""Say whether a trained policy is any good, without a simulator.

The policy is asked at instants of demonstrated episodes, by default those that its run held out,
and its chunks are compared with the demonstrated ones: errors beside two baselines (repeat the
last action; the mean chunk), by dimension and by step ahead; losses of its blocks; spread of its
samples; what it looks at; joins of chunks. One paragraph says what looks wrong and what to try.

Writes check.json, check.png. Exit code 0 whatever the verdict is, 2 for bad input.

examples:
  lfm-policy check runs/pusht-fm
  lfm-policy check pusht-state
  lfm-policy check runs/my_robot --data new_demonstrations.hdf5 --samples 32
  lfm-policy check runs/lift --data demos.hdf5 dataset.filter_key=valid
  lfm-policy check exported --data pusht_cchi_v7_replay.zarr --json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfm_policy.cli.common import (
    SOLVERS,
    add_common_options,
    add_sampler_options,
    positive,
    print_json,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "policy",
        help="run folder, checkpoint, exported folder, or a policy of the package: pusht-state",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="dataset.key=value", help="how demonstrations are read"
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="other demonstrations, of any format (default: those of the training)",
    )
    parser.add_argument(
        "--episodes", type=positive, default=40, help="at most so many, at random; default 40"
    )
    parser.add_argument(
        "--samples", type=positive, default=16, help="chunks of every instant; default 16"
    )
    add_sampler_options(parser, solvers=SOLVERS)
    parser.add_argument("--output", type=Path, help="results folder (default: <policy>/check)")
    add_common_options(parser, seed_help="of noise and choices; default 0")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.assets import results_folder
    from lfm_policy.checking import check
    from lfm_policy.cli.common import sampler_of
    from lfm_runtime.disk.files import write_json

    output = arguments.output or results_folder(arguments.policy) / "check"
    found = check(
        arguments.policy,
        data=arguments.data,
        episodes=arguments.episodes,
        samples=arguments.samples,
        seed=arguments.seed or 0,
        overrides=arguments.overrides,
        device=arguments.device,
        quiet=arguments.quiet or arguments.json,
        **sampler_of(arguments),
    )
    report = found.to_dict()
    write_json(output / "check.json", report)
    found.plot(output / "check.png")
    if arguments.json:
        print_json(report)
        return 0
    found.print()
    print(f"written: {output / 'check.json'}, {output / 'check.png'}")
    return 0
