"""Set the recorded states of robosuite again and write what is observed.

IN is a raw recording of robosuite (demo.hdf5, states without observations) or a robomimic file with
states. OUT has its actions, states, models, names and filter keys, and for every state what
robomimic observes in it. When it is interrupted, the same command goes on.

Images are drawn fast, without multisampling and reflections; --rendering full draws them as
robosuite does, which takes about four times as long. OUT says which, and a policy trained on it is
evaluated in the same way.

examples:
  lfm-policy extract demo.hdf5 low_dim.hdf5
  lfm-policy extract lift.hdf5 lift_image.hdf5 --images
  lfm-policy extract demo.hdf5 image.hdf5 --cameras agentview robot0_eye_in_hand --image-size 96
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfm_policy.cli.common import (
    add_common_options,
    options_of,
    positive,
    print_json,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="HDF5 file with states")
    parser.add_argument("target", type=Path, metavar="OUT", help="what to write; must not exist")
    parser.add_argument(
        "--images", action="store_true", help="also the images of the task's cameras"
    )
    parser.add_argument(
        "--cameras", nargs="+", default=[], metavar="NAME", help="also the images of these cameras"
    )
    parser.add_argument(
        "--image-size", type=positive, default=84, help="width and height in pixels; default 84"
    )
    parser.add_argument(
        "--rendering", choices=("fast", "full"), default="fast", help="default fast"
    )
    parser.add_argument("--max-demos", type=positive, help="only the first so many")
    add_common_options(parser, seed_help="without effect: nothing is random here")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.data.tools.extract import ExtractOptions, extract

    options = options_of(ExtractOptions, arguments, cameras=tuple(arguments.cameras))
    quiet = arguments.quiet or arguments.json
    done = extract(arguments.source, arguments.target, options, quiet=quiet)
    if arguments.json:
        print_json(
            {
                "target": str(done.target),
                "env_args": done.env_args,
                "demos": done.demos,
                "solved": list(done.solved),
                "observations": {key: list(shape) for key, shape in done.shapes.items()},
            }
        )
        return 0
    steps = sum(done.demos.values())
    print(
        f"{done.env_args['env_name']}: {len(done.demos)} demos, {steps:,} steps, "
        f"{len(done.solved)} end solved"
    )
    for key, shape in done.shapes.items():
        print(f"  {key}: {'x'.join(map(str, shape))}")
    print(f"written: {done.target}")
    return 0
