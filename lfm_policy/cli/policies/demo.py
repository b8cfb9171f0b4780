"""Train a small policy on the bundled PushT demonstrations, distil it to 2 and 1 network
evaluations, evaluate all three, and write one HTML page about it. Takes minutes on 2 cores.

Needs the simulator (the extra "sim") and no network. Options are set as
section.key=value on top of the configuration pusht/demo; students take a third of the teacher's
gradient steps. The folder holds run folders, evaluations and videos, and demo.html, one file that
needs nothing else. A demo that was stopped goes on with --resume, which keeps all that is done.

examples:
  lfm-policy demo
  lfm-policy demo --resume --episodes 200
  lfm-policy demo training.total_steps=1500 --episodes 10 --output runs/quick-demo
  lfm-policy demo --dataset pusht_cchi_v7_replay.zarr --output runs/demo-206
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from lfm_policy.cli.common import add_run_options, overrides_of, positive, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", type=Path, help="other PushT demonstrations than the bundled ones"
    )
    parser.add_argument(
        "--episodes", type=positive, default=50, help="test episodes per policy; default 50"
    )
    add_run_options(parser, output_help="folder of the demo (default: runs/demo)")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.config import load_config

    load_config("pusht/demo", overrides_of(arguments))  # a mistake need not wait for the rest

    from lfm_policy.demo import run_demo
    from lfm_policy.demo.demo import PAGE, REPORT
    from lfm_policy.evaluation.report import results_table

    output = arguments.output or Path("runs") / "demo"
    results = run_demo(
        output,
        dataset=arguments.dataset,
        overrides=overrides_of(arguments),
        episodes=arguments.episodes,
        device=arguments.device,
        command=_command(arguments),
        resume=arguments.resume,
        quiet=arguments.quiet or arguments.json,
    )
    if arguments.json:
        print_json({"page": str(output / PAGE), **results.to_dict()})
        return 0
    title = f"teacher and students on PushT, n = {arguments.episodes}"
    cells = [policy.evaluation.cell for policy in results.policies]
    results_table(title, cells).print()
    print(f"written: {output / REPORT}, and to look at in a browser: {output / PAGE}")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that makes the same demo from its beginning."""
    parts = ["lfm-policy", "demo", *arguments.overrides]
    for name in ("dataset", "seed"):
        if (value := getattr(arguments, name)) is not None:
            parts += [f"--{name}", str(value)]
    parts += ["--episodes", str(arguments.episodes)]
    if arguments.device != "auto":
        parts += ["--device", arguments.device]
    return shlex.join(parts)
