"""Export a policy, its normalisation, encoder and whole sampler, as one graph.

The folder holds policy.onnx, the whole policy from raw observations and noise to actions, and
policy.json, which describes it. It runs where only lfm-policy-runtime is installed:

  from lfm_runtime import OnnxPolicy
  policy = OnnxPolicy("exported")

With --format lerobot it is a folder for LeRobot in place of that, which the distribution
lerobot_policy_lfm runs there, and lfm-policy import makes a checkpoint of again.

exit code 3: --check found another result than PyTorch's; the folder was removed.

examples:
  lfm-policy export pusht-state exported --check
  lfm-policy export runs/pusht-lfm exported-teacher --solver heun --nfe 16
  lfm-policy export pusht-image exported-int8 --precision int8 --check --episodes 100
  lfm-policy export pusht-image for-lerobot --format lerobot
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_policy.cli.common import (
    EXPORTED_SOLVERS,
    add_sampler_options,
    positive,
    print_json,
    refuse_given,
    sampler_of,
)

if TYPE_CHECKING:
    from lfm_policy.policy import Policy

EXIT_DIFFERS = 3
OBSERVATIONS = 100
MANY_EVALUATIONS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        help="checkpoint, run folder, policy of the package (pusht-state), or user/name of one on "
        "the hub",
    )
    parser.add_argument("output", type=Path, help="folder to write; it must not exist")
    parser.add_argument(
        "--format",
        default="onnx",
        choices=("onnx", "lerobot"),
        help="onnx: one graph (default); lerobot: a folder pretrained_model of LeRobot",
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OURS=LEROBOT",
        help="what LeRobot calls an observation, such as joints=observation.state (may be "
        "repeated; with --format lerobot)",
    )
    add_sampler_options(parser, solvers=EXPORTED_SOLVERS)
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "fp16", "int8"),
        help="fp16: half the size, computed in float32; int8: matrix products in 8 bits",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare with PyTorch on 100 real observations; for fp16 and int8 in rollouts too",
    )
    parser.add_argument(
        "--dataset",
        help="demonstrations to take the observations of --check from (default: as in training)",
    )
    parser.add_argument("--episodes", type=positive, help="rollouts of --check; default 100")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.errors import InputError

    if not arguments.check:
        why = "is for --check: give it too, or leave it out"
        refuse_given(arguments, ["dataset", "episodes"], why)
    if arguments.precision == "fp32":
        why = "is of rollouts, by which fp16 and int8 are compared too"
        refuse_given(arguments, ["episodes"], why)
    if arguments.format == "lerobot":
        return _export_lerobot(arguments)
    if arguments.rename:
        raise InputError("--rename is for --format lerobot: a graph keeps the policy's names")
    import torch

    from lfm_policy.exporting import export_policy
    from lfm_policy.policy import load_policy

    torch.set_num_threads(1)
    policy = load_policy(arguments.checkpoint)
    policy.set_sampler(**sampler_of(arguments))
    if policy.nfe is not None and policy.nfe > MANY_EVALUATIONS:
        print(
            f"tracing {policy.nfe} network evaluations, which takes one to three seconds each",
            file=sys.stderr,
        )
    folder = export_policy(policy, arguments.output, precision=arguments.precision)
    report: dict[str, Any] = {
        "folder": str(folder),
        "precision": arguments.precision,
        **policy.sampler.to_dict(),
        "bytes": sum(file.stat().st_size for file in folder.iterdir()),
    }
    lines = [
        f"written: {folder} ({report['bytes'] / 1e6:.1f} MB, {arguments.precision}, NFE "
        f"{policy.nfe}, {report['solver']})"
    ]
    code = 0
    if arguments.check:
        code = _check(arguments, policy, folder, report, lines)
    if arguments.json:
        print_json(report)
    else:
        print("\n".join(lines))
    return code


def _export_lerobot(arguments: argparse.Namespace) -> int:
    from lfm_policy.errors import InputError

    if arguments.check or arguments.precision != "fp32":
        raise InputError("--check and --precision are for --format onnx: leave them out")
    from lfm_policy.cli.common import renames
    from lfm_policy.lerobot.export import export_lerobot, lerobot_names
    from lfm_policy.policy import load_policy

    policy = load_policy(arguments.checkpoint)
    policy.set_sampler(**sampler_of(arguments))
    given = renames(arguments.rename)
    folder = export_lerobot(policy, arguments.output, rename=given)
    names = lerobot_names(policy.spec, given)
    if arguments.json:
        print_json({"folder": str(folder), "names": names, **policy.sampler.to_dict()})
        return 0
    print(f"written: {folder} (LeRobot's type lfm, NFE {policy.nfe}, {policy.solver})")
    for name, key in names.items():
        print(f"observes {key} for {name} {policy.spec.obs_shapes[name]}")
    return 0


def _check(
    arguments: argparse.Namespace,
    policy: Policy,
    folder: Path,
    report: dict[str, Any],
    lines: list[str],
) -> int:
    from lfm_policy.errors import ExportError, InputError
    from lfm_policy.evaluation.exported import ExportedPolicy
    from lfm_policy.exporting import compare_success, require_same_chunks

    try:
        difference = require_same_chunks(
            policy,
            folder,
            n=OBSERVATIONS,
            dataset=arguments.dataset,
            precision=arguments.precision,
        )
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_DIFFERS
    report["difference"] = asdict(difference)
    lines.append(
        f"largest difference from PyTorch: {difference.largest:.2e} of the largest action (mean "
        f"{difference.mean:.2e}), {difference.n} observations: {difference.source}"
    )
    if arguments.precision == "fp32":
        return 0
    try:
        change = compare_success(
            policy, ExportedPolicy(folder), n_episodes=arguments.episodes or 100
        )
    except InputError as error:
        report["success"] = None
        lines.append(f"success was not compared: {error}")
        return 0
    report["success"] = asdict(change)
    lines.append(
        f"success in {change.env_id}, seeds from {change.seed_start}: {change.export}/{change.n}, "
        f"PyTorch {change.policy}/{change.n} (change {change.export - change.policy:+d}, "
        f"McNemar p = {change.p_value:.2f})"
    )
    return 0
