"""Look at a dataset of any format and write a configuration that trains on it, with a reason beside
every line: what the policy sees, how long its chunks are, how data are scaled, the recipe, and how
long all of it takes on this machine.

examples:
  lfm-policy init demonstrations.hdf5
  lfm-policy init my_lerobot_dataset -o my_robot.yaml --minutes 60
  lfm-policy init demonstrations.zarr --fps 20
  lfm-policy init demonstrations.zarr --direct
  lfm-policy init demonstrations.zarr -o - | less
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_policy.cli.common import print_json

if TYPE_CHECKING:
    from lfm_policy.proposal import Proposal

STANDARD_OUTPUT = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dataset",
        type=Path,
        help="zarr replay buffer, robomimic HDF5 file or LeRobot folder",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE.yaml",
        help="configuration to write (default: <name of the dataset>.yaml in this folder, with "
        "--direct <name>_direct.yaml); - prints it",
    )
    parser.add_argument(
        "--fps", type=_positive_number, help="steps per second (default: what the dataset says)"
    )
    parser.add_argument(
        "--action-key",
        default="",
        metavar="KEY",
        help="array to imitate (default: the one that is called so)",
    )
    parser.add_argument(
        "--leave-out",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="observations that the policy is not to see, as the dataset calls them",
    )
    parser.add_argument(
        "--minutes",
        type=_positive_number,
        help="time for everything, one student included: fewer steps where that is needed",
    )
    parser.add_argument(
        "--direct",
        action="store_true",
        help="three U-Nets of one evaluation each, from one training, and nothing to distil; for "
        "policies without cameras",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda or cuda:<number>"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _positive_number(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.errors import InputError
    from lfm_runtime.disk.files import exists

    dataset, output = arguments.dataset, arguments.output
    printed = output == STANDARD_OUTPUT
    if printed and arguments.json:
        raise InputError("-o - and --json both print to standard output: give one of them")
    name = dataset.expanduser().resolve().name.split(".")[0] or "robot"
    file = Path(output) if output else Path(f"{name}{'_direct' if arguments.direct else ''}.yaml")
    if not printed:
        if file.suffix not in (".yaml", ".yml"):
            raise InputError(f"-o {file}: expected a name that ends in .yaml")
        if exists(file) and not arguments.force:
            raise InputError(
                f"{file}: exists already; choose another name with -o, or write over it with "
                "--force"
            )
        if file.is_dir():
            raise InputError(f"{file}: is a folder, expected a file or nothing")
    if not exists(dataset.expanduser()):
        from lfm_policy.data.tools.detect import detect_format

        detect_format(dataset)  # says what was expected, without torch

    from lfm_policy.proposal import ProposalOptions, propose
    from lfm_runtime.disk.files import write_text

    options = ProposalOptions(
        fps=arguments.fps,
        action_key=arguments.action_key,
        leave_out=arguments.leave_out,
        minutes=arguments.minutes,
        direct=arguments.direct,
        device=arguments.device,
        quiet=arguments.quiet or arguments.json,
    )
    proposal = propose(dataset, options, command=f"lfm-policy init {shlex.quote(str(dataset))}")
    if printed:
        _print_findings(proposal)
        print(proposal.text, end="")
        return 0
    write_text(file, proposal.text)
    if arguments.json:
        print_json({"file": str(file), **proposal.to_dict()})
        return 0
    _print_findings(proposal)
    _print_summary(proposal, file)
    return 0


def _print_findings(proposal: Proposal) -> None:
    """Print what looks wrong to standard error."""
    for text in proposal.warnings:
        print(f"warning: {text}", file=sys.stderr)
    for text in proposal.notes:
        print(f"note: {text}", file=sys.stderr)


def _print_summary(proposal: Proposal, file: Path) -> None:
    seen = ", ".join(f"{s.key} ({s.note.split(',')[0]})" for s in proposal.choice.observed)
    print(f"observed: {seen}")
    if proposal.tasks:
        print(f"{proposal.tasks}: the policy is told which one, as `task`")
    for key, reason in proposal.choice.left_out.items():
        print(f"left out: {key}: {reason}")
    for label, estimate in zip(("training", "a student"), proposal.plan.estimates, strict=False):
        print(f"{label}: {estimate.text()}")
    for sentence in proposal.plan.said:
        print(sentence)
    run_folder = f"runs/{proposal.config.name}"
    print(f"written: {file}; next:")
    print(f"  lfm-policy train {shlex.quote(str(file))}")
    print(f"  lfm-policy check {run_folder}")
    print(f"  lfm-policy export {run_folder} exported/{proposal.config.name}")
