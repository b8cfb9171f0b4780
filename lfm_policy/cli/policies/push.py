"""Publish a policy on the Hugging Face hub, with a model card written from its checkpoint.

Sent are config.json, the weights, the normaliser, README.md (the card) and, with --onnx, exported
graphs: never the state of a training, recordings or demonstrations. The card says what eval.json
and check.json beside the checkpoint say. Others then load it with load_policy("user/name"), and
eval, serve, control, export, inspect and distill take that name, too. Log in first with
`hf auth login`, or set HF_TOKEN.

examples:
  lfm-policy push runs/my-arm user/my-arm --dry-run
  lfm-policy push runs/my-arm user/my-arm --license apache-2.0 --private \\
      --description "Puts the red cube into the tray, with an SO-101."
  lfm-policy push runs/my-arm user/my-arm --onnx exported/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfm_policy.cli.common import print_json, refuse_given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", help="checkpoint or run folder")
    parser.add_argument("repository", help="user/name on the hub, made when it is not there")
    parser.add_argument(
        "--private", action="store_true", help="a new repository can only be seen by its owner"
    )
    parser.add_argument(
        "--license", default="", help="as the hub calls it, such as apache-2.0 (default: none)"
    )
    parser.add_argument("--description", default="", help="what the policy does, for the card")
    parser.add_argument(
        "--onnx",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="exported folder that goes with it (may be repeated)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="eval.json or check.json for the card (default: those beside the checkpoint)",
    )
    parser.add_argument("--no-card", action="store_true", help="leave the README.md there as it is")
    parser.add_argument(
        "--incomplete", action="store_true", help="even if the training is not complete"
    )
    parser.add_argument("--message", default="", help="of the commit")
    parser.add_argument(
        "--dry-run", action="store_true", help="write the folder, print the card, send nothing"
    )
    parser.add_argument(
        "--output", type=Path, help="folder to write and keep (default of --dry-run: <name>-hub)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    import sys
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from lfm_policy.errors import InputError
    from lfm_policy.policy.checkpoint_writer import CARD_FILE
    from lfm_policy.sharing.push import PushOptions, prepare_push, upload
    from lfm_runtime.disk.files import exists

    if arguments.no_card:
        of_card = ("license", "description", "report")
        refuse_given(arguments, of_card, "is for the card: leave it or --no-card out")
    output = arguments.output
    if output is None and arguments.dry_run:
        output = Path(f"{arguments.repository.rpartition('/')[2]}-hub")
    if output is not None and exists(output):
        raise InputError(f"{output}: exists already: remove it, or choose another --output")
    options = PushOptions(
        license=arguments.license,
        description=arguments.description,
        onnx=arguments.onnx,
        reports=arguments.report,
        incomplete=arguments.incomplete,
        card=not arguments.no_card,
    )
    with ExitStack() as stack:
        if output is None:
            output = Path(stack.enter_context(TemporaryDirectory())) / "policy"
        prepared = prepare_push(arguments.policy, arguments.repository, output, options)
        for note in prepared.notes:
            print(f"note: {note}", file=sys.stderr)
        kept = arguments.output is not None or arguments.dry_run
        report = {
            "repository": arguments.repository,
            "files": prepared.files,
            "folder": str(output) if kept else None,
            "commit": None,
        }
        if not arguments.dry_run:
            report["commit"] = upload(
                prepared,
                arguments.repository,
                private=arguments.private or None,
                message=arguments.message,
            )
        if arguments.json:
            print_json(report)
            return 0
        if arguments.dry_run and options.card:
            print((output / CARD_FILE).read_text(encoding="utf-8"))
    for name, size in prepared.files.items():
        print(f"{size:>12,} bytes  {name}")
    if kept:
        print(f"written: {output}")
    if report["commit"]:
        print(f"pushed: {report['commit']}")
        print(f'load_policy("{arguments.repository}")')
    return 0
