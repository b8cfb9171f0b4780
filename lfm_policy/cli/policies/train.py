"""Train a policy block by block from a configuration.

Options are set as section.key=value; lists as 'flow.step_sizes=[0.03,0.1]'. `--options` lists those
that one usually sets with their meaning, `--options all` all of them; `--show-config` prints what
a run would use.

examples:
  lfm-policy train pusht/fm dataset.path=pusht_cchi_v7_replay.zarr
  lfm-policy train my_robot.yaml --output runs/first training.total_steps=10000 --seed 1
  lfm-policy train pusht/lfm4 dataset.path=... --resume
  accelerate launch --multi_gpu --num_processes 2 -m lfm_policy train pusht/fm dataset.path=...

Several processes on a CPU are launched in the same way, with --device cpu at the end (with --cpu,
accelerate starts a single process unless MPI is there).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lfm_policy.cli.common import add_run_options, overrides_of, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML file, or the name of a bundled one such as pusht/fm")
    add_run_options(parser, output_help="run folder (default: runs/<name>)")
    parser.add_argument(
        "--options",
        nargs="?",
        const="common",
        metavar="all",
        help="list the options that one usually sets, or all of them, and stop",
    )
    parser.add_argument(
        "--show-config", action="store_true", help="print the resolved configuration and stop"
    )


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.config import config_to_dict, config_to_yaml, load_config
    from lfm_policy.config.describe import describe_options
    from lfm_policy.errors import InputError
    from lfm_runtime.disk.files import is_file

    if arguments.options not in (None, "common", "all"):  # it is an override behind `--options`
        arguments.overrides.append(arguments.options)
    config = load_config(arguments.config, overrides_of(arguments))
    if arguments.options:
        print(describe_options(config, everything=arguments.options == "all"))
        return 0
    if arguments.show_config:
        if arguments.json:
            print_json(config_to_dict(config))
        else:
            print(config_to_yaml(config), end="")
        return 0

    from lfm_policy.policy import read_header
    from lfm_policy.training import train

    folder = arguments.output or Path("runs") / config.name
    if is_file(folder):
        raise InputError(f"--output {folder}: is a file, expected a folder or nothing")
    checkpoint = train(
        config,
        folder,
        device=arguments.device,
        resume=arguments.resume,
        quiet=arguments.quiet or arguments.json,
    )
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one reports
        return 0
    header = read_header(checkpoint)
    if arguments.json:
        print_json({"checkpoint": str(checkpoint), "training": header.training})
    else:
        training = header.training
        print(
            f"trained {training['steps']:,} steps in {training['train_seconds']:.0f} s "
            f"+ {training['push_seconds']:.0f} s push-forward: {checkpoint}"
        )
    return 0
