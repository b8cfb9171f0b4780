"""Make a checkpoint of a diffusion policy of LeRobot, Diffusion Policy or robomimic.

PATH is a folder pretrained_model of LeRobot (0.1 or later) or its name on the hub, a .ckpt of
Diffusion Policy (low-dimensional and hybrid image U-Nets), or a .pth of robomimic (its
diffusion_policy). A folder of LeRobot may also be of type lfm, trained there or exported for it.
What is written does what the original did, from the same noise, and is evaluated, exported, served
and distilled as any policy is. No code of these files is run.

examples:
  lfm-policy import outputs/train/checkpoints/last/pretrained_model my_policy
  lfm-policy import lerobot/diffusion_pusht my_policy --rename observation.state=agent_pos
  lfm-policy import latest.ckpt my_policy --solver ddim --nfe 10
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_policy.cli.common import positive, print_json, renames

if TYPE_CHECKING:
    from lfm_policy.importing.description import Found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="folder, file, or user/name of a LeRobot policy on the hub")
    parser.add_argument("output", type=Path, help="folder to write; it must not exist")
    parser.add_argument(
        "--from",
        dest="framework",
        default="",
        metavar="NAME",
        help="lerobot, diffusion_policy or robomimic (default: recognised)",
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="another name of an observation, as your environment or robot calls it (may be "
        "repeated)",
    )
    parser.add_argument(
        "--solver", default="", help="ddpm, ddim or dpmsolver++ (default: the file's)"
    )
    parser.add_argument("--nfe", type=positive, default=0, help="its steps (default: the file's)")
    parser.add_argument(
        "--env",
        default="",
        help="gymnasium id of the environment that it was made for, such as lfm/PushT-v0, or "
        "module:Name-v0; eval and control take it where they are not told another",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option of LeRobot's config.json that is not known here and does not change what "
        "the policy does (may be repeated)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.importing.run import import_policy

    found = import_policy(
        arguments.path,
        arguments.output,
        framework=arguments.framework,
        rename=renames(arguments.rename),
        solver=arguments.solver,
        nfe=arguments.nfe,
        ignored=arguments.ignore,
        env=arguments.env,
    )
    report = _report(found, arguments.output)
    if arguments.json:
        print_json(report)
        return 0
    print(f"written: {report['folder']} (a {found.kind} of {report['framework']})")
    for key, shape in report["observations"].items():
        print(f"observes {key} {tuple(shape)}")
    print(
        f"{report['n_action_steps']} of {report['horizon']} actions of {report['action_dim']} "
        f"numbers, from {report['n_obs_steps']} frames; {report['solver']}, NFE {report['nfe']}"
    )
    return 0


def _report(found: Found, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "framework": found.framework,
        **found.facts,
        "observations": {key: list(shape) for key, shape in found.shapes.items()},
        "action_dim": found.action_dim,
        **found.steps,
        **found.sampler,
    }
