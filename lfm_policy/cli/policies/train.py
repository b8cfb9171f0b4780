"""Train a policy block by block from a configuration.

Options are set as section.key=value; lists as 'flow.step_sizes=[0.03,0.1]'. `--options` lists those
that one usually sets with their meaning, `--options all` all of them; `--show-config` prints what
a run would use.

A file may name others, or bundled configurations, that are read before it: `include: [own/state]`.

Camera frames with a side above 128 pixels are resized so that it has 128:
'encoder.image.resize=[height,width]' says another size, 'encoder.image.resize=[]' leaves them as
they are. 'encoder.image.crop=[0.9,0.9]' shows the policy a part of that, here 90%.

examples:
  lfm-policy train own/state dataset.path=my.zarr 'dataset.obs_keys=[joints,gripper]'
  lfm-policy train pusht/lfm3 dataset.path=pusht_cchi_v7_replay.zarr
  lfm-policy train my_robot.yaml --output runs/first training.total_steps=10000 --seed 1
  lfm-policy train --resume runs/first
  lfm-policy train --resume runs/first training.total_steps=20000
  lfm-policy train --init-from pusht-state dataset.path=mine.zarr training.total_steps=2000
  accelerate launch --multi_gpu --num_processes 2 -m lfm_policy train pusht/fm dataset.path=...

A run that was interrupted goes on with --resume to the very same weights. One with more steps than
before, complete or not, first finishes what it was; then every block goes on from its weights for
the steps that were added, with a fresh optimiser, a new warm-up and a new cosine, on data pushed
forward anew. The policy of the earlier steps stays in the run's checkpoints.

With eval.every=2000 the policy is rolled out every 2000 steps once all of it has learnt something,
with environment seeds from 200000; the best is kept in the run as checkpoints/best. The run itself
still means its newest checkpoint.

Several processes on a CPU are launched in the same way, with --device cpu at the end (with --cpu,
accelerate starts a single process unless MPI is there).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_policy.cli.common import add_run_options, overrides_of, print_best, print_json

if TYPE_CHECKING:
    from lfm_policy.config import ExperimentConfig


_INCLUDE = """\
include: list[str] = []
    in a file: other files, or bundled configurations such as own/state, that are read before it"""
"""It is no option of a run, but one looks for it among them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        nargs="?",
        help="YAML file, or the name of a bundled one such as pusht/fm; --resume RUN needs none",
    )
    add_run_options(parser, output_help="run folder (default: runs/<name>)", resumes_a_run=True)
    parser.add_argument(
        "--init-from",
        metavar="CHECKPOINT",
        help="start from a policy: a checkpoint, a run folder, or one of the package such as "
        "pusht-state; without CONFIG with its own options and a tenth of its steps",
    )
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
    from lfm_policy.config import config_to_dict, config_to_yaml
    from lfm_policy.config.describe import describe_options
    from lfm_policy.errors import InputError
    from lfm_runtime.disk.files import is_file

    if arguments.options not in (None, "common", "all"):  # it is an override behind `--options`
        arguments.overrides.append(arguments.options)
    config, folder = _what_to_train(arguments)
    if arguments.options:
        print(_INCLUDE)
        print(describe_options(config, everything=arguments.options == "all"))
        return 0
    if arguments.show_config:
        if arguments.json:
            print_json(config_to_dict(config))
        else:
            print(config_to_yaml(config), end="")
        return 0

    from lfm_policy.evaluation.evaluation import SelectionRollouts
    from lfm_policy.policy import read_header
    from lfm_policy.training import train

    if is_file(folder):
        raise InputError(f"--output {folder}: is a file, expected a folder or nothing")
    checkpoint = train(
        config,
        folder,
        device=arguments.device,
        resume=arguments.resume is not None,
        init_from=arguments.init_from,
        rollouts=SelectionRollouts(),
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
        print_best(checkpoint)
    return 0


def _what_to_train(arguments: argparse.Namespace) -> tuple[ExperimentConfig, Path]:
    """Return the options and the folder of the run.

    Raises:
        InputError: neither a configuration nor a run is given, or they contradict each other.
    """
    from lfm_policy.config import bundled_config_names, load_config
    from lfm_policy.errors import InputError
    from lfm_runtime.disk.files import is_file

    # What stands where a configuration or a run may stand can be an override, or a configuration.
    texts = [text for text in (arguments.config, *arguments.overrides) if text is not None]
    run: Path | None = None
    if arguments.resume:
        if Path(arguments.resume).is_dir():
            run = Path(arguments.resume)
        else:
            texts.append(arguments.resume)
    configs = [text for text in texts if "=" not in text or is_file(text)]
    known = (None, "", *bundled_config_names())
    unknown = arguments.resume in configs and arguments.resume not in known
    if unknown and not is_file(arguments.resume):
        raise InputError(f"--resume {arguments.resume}: there is no such run folder")
    arguments.overrides = [text for text in texts if text not in configs]
    overrides = overrides_of(arguments)
    if len(configs) > 1:
        raise InputError(
            f"'{configs[1]}': expected key=value, such as training.total_steps=100; the "
            f"configuration is {configs[0]} already"
        )
    if run is not None and arguments.output not in (None, run):
        raise InputError(
            f"--resume {run} and --output {arguments.output}: a run goes on in its own folder; "
            "leave out --output"
        )
    if configs:
        config = load_config(configs[0], overrides)
        return config, run or arguments.output or Path("runs") / config.name
    if arguments.resume is not None:
        folder = run or arguments.output
        if folder is None:
            raise InputError("--resume: which run? Give its folder: --resume runs/<name>")
        from lfm_policy.training.run_folder.resume import run_config

        config = run_config(folder, overrides)
        if config.distill.method and not config.init.source:
            raise InputError(
                f"{folder}: is the run of a student; continue it as it was begun, with 'lfm-policy "
                f"distill TEACHER ... --output {folder} --resume'"
            )
        return config, folder
    if arguments.init_from is not None:
        from lfm_policy.policy import read_header
        from lfm_policy.training.start.source import tuned_config

        config = tuned_config(read_header(arguments.init_from), overrides)
        return config, arguments.output or Path("runs") / config.name
    raise InputError(
        "which configuration? Give a YAML file or the name of a bundled one, such as pusht/fm, or "
        "continue a run with --resume runs/<name>"
    )
