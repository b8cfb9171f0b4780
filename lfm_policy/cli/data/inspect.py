"""Episodes, shapes, ranges and images of a dataset, with warnings of what usually ruins training;
options, normaliser, parameters and history of a checkpoint or run.

examples:
  lfm-policy inspect pusht_cchi_v7_replay.zarr --plot demonstrations.png
  lfm-policy inspect demonstrations.hdf5 --json
  lfm-policy inspect my_lerobot_dataset
  lfm-policy inspect runs/pusht-fm --plot training.png
  lfm-policy inspect runs/pusht-fm --json
  lfm-policy inspect pusht-state
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lfm_policy.cli.common import add_common_options, print_json

if TYPE_CHECKING:
    from lfm_policy.inspection.checkpoint import CheckpointInspection
    from lfm_policy.inspection.dataset import DatasetInspection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        help="dataset (zarr, robomimic HDF5 or LeRobot folder), checkpoint or run folder, policy "
        "of the package, or user/name of one on the hub",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it, too")
    parser.add_argument(
        "--action-key",
        default="",
        metavar="KEY",
        help="array of a dataset to imitate (default: the one that is called so)",
    )
    add_common_options(parser, seed_help="chooses the episodes that are drawn; default 0")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.assets import POLICIES
    from lfm_policy.checkpoint_folders import find_checkpoint, is_checkpoint
    from lfm_policy.data.download.locations import where_to_get
    from lfm_policy.errors import InputError
    from lfm_policy.sharing.hub import hub_name
    from lfm_runtime.disk.files import exists

    path = Path(arguments.path)
    if not exists(path):
        there, advice = hub_name(arguments.path), where_to_get(path)
        on_hub = there is not None and (there.explicit or not exists(path.parent))
        if advice or (arguments.path not in POLICIES and not on_hub):
            raise InputError(f"{str(path)[:1000]}: no such file or folder{advice}")
        path = find_checkpoint(arguments.path)
    plot = arguments.plot
    if plot is not None and plot.suffix != ".png":
        raise InputError(f"--plot {plot}: expected a name that ends in .png")
    inspection: CheckpointInspection | DatasetInspection
    if is_checkpoint(path):
        if arguments.action_key:
            raise InputError(f"--action-key: {path} is a checkpoint, expected a dataset")
        from lfm_policy.inspection.checkpoint import inspect_checkpoint

        inspection = inspect_checkpoint(path)
    else:  # which needs no torch
        from lfm_policy.inspection.dataset import inspect_dataset

        inspection = inspect_dataset(
            path,
            action_key=arguments.action_key,
            seed=arguments.seed or 0,
            quiet=arguments.quiet,
        )
    if plot is not None:
        inspection.plot(plot)
    if arguments.json:
        print_json(inspection.to_dict())
    else:
        inspection.print()
        if plot is not None:
            print(f"written: {plot}")
    return 0
