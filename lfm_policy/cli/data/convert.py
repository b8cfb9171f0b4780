"""``lfm-policy convert``."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from lfm_policy.cli.common import add_common_options, positive, print_json

_FORMATS = "zarr, robomimic, lerobot or one of a plugin"

_EPILOG = """\
What OUT is called decides its format: NAME.zarr and NAME.zarr.zip are zarr replay buffers,
NAME.hdf5 and NAME.h5 robomimic files, any other name is the folder of a LeRobot dataset (v3.0).

Numbers keep their values and dtypes. Images keep theirs in zarr and HDF5 (as uint8); LeRobot
encodes them as videos, and what that lost is measured and printed. Rewards, simulator states and
language are not carried over.

examples:
  lfm-policy convert pusht_cchi_v7_replay.zarr pusht-lerobot --fps 10 --obs-keys img state
  lfm-policy convert low_dim_v141.hdf5 lift.zarr --filter-key train
  lfm-policy convert pusht-lerobot pusht.hdf5 --rename observation.images.img=image
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "convert",
        help="convert demonstrations between zarr, robomimic and LeRobot",
        description="Read demonstrations in one format and write them in another.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN", help="dataset to read")
    parser.add_argument("target", type=Path, metavar="OUT", help="what to write; must not exist")
    parser.add_argument(
        "--from",
        dest="source_format",
        metavar="FORMAT",
        help=f"format of IN: {_FORMATS} (default: detected)",
    )
    parser.add_argument(
        "--to",
        dest="target_format",
        metavar="FORMAT",
        help="format of OUT (default: by its name)",
    )
    parser.add_argument(
        "--obs-keys",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY",
        help="observations to carry over, as IN calls them (default: all)",
    )
    parser.add_argument(
        "--action-key", help="array of the actions in IN (default: action; robomimic: actions)"
    )
    parser.add_argument(
        "--rename",
        type=_renaming,
        nargs="+",
        action="extend",
        default=[],
        metavar="OLD=NEW",
        help="new names of observations",
    )
    parser.add_argument(
        "--fps",
        type=float,
        help="steps per second: needed for LeRobot unless IN says it, kept by robomimic, too",
    )
    parser.add_argument("--max-episodes", type=positive, help="only the first so many episodes")
    parser.add_argument("--filter-key", help="only the demos of mask/KEY of a robomimic file")
    parser.add_argument(
        "--task", default="demonstration", help="what the episodes show, in words, for LeRobot"
    )
    parser.add_argument(
        "--crf", type=int, help="quality of LeRobot's videos, 0 (best) to 51; default 18"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_common_options(parser, seed_help="without effect: nothing is random here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    from lfm_policy.data.images.video_writer import DEFAULT_CRF
    from lfm_policy.data.tools.convert import ConvertOptions, convert
    from lfm_policy.errors import InputError

    rename = dict(arguments.rename)
    if len(rename) != len(arguments.rename):
        raise InputError("--rename gives one observation two names")
    options = ConvertOptions(
        source_format=arguments.source_format,
        target_format=arguments.target_format,
        action_key=arguments.action_key,
        obs_keys=arguments.obs_keys,
        rename=rename,
        filter_key=arguments.filter_key,
        max_episodes=arguments.max_episodes,
        fps=arguments.fps,
        task=arguments.task,
        crf=DEFAULT_CRF if arguments.crf is None else arguments.crf,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        done = convert(
            arguments.source,
            arguments.target,
            options,
            quiet=arguments.quiet or arguments.json,
        )
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    if arguments.json:
        print_json(done.to_dict())
        return 0
    print(
        f"{done.source} ({done.source_format}): {done.n_episodes} episodes, {done.n_steps:,} steps"
        + (f" at {done.fps:g} per second" if done.fps is not None else "")
    )
    for key, shape in done.shapes.items():
        print(f"  {key}: {done.dtypes[key]} {'x'.join(map(str, shape))}")
    for key, loss in done.losses.items():
        print(
            f"  {key} encoded as video: mean difference {loss.mean:.2f}, largest {loss.largest} of "
            f"255 grey levels, PSNR {loss.psnr:.1f} dB"
        )
    print(f"written: {done.target} ({done.target_format})")
    return 0


def _renaming(text: str) -> tuple[str, str]:
    """Parse ``OLD=NEW``."""
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise argparse.ArgumentTypeError(f"'{text}' is not OLD=NEW")
    return old, new
