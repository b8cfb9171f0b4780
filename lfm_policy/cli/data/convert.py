"""Read demonstrations in one format and write them in another.

What OUT is called decides its format: NAME.zarr and NAME.zarr.zip are zarr replay buffers,
NAME.hdf5 and NAME.h5 robomimic files, any other name is the folder of a LeRobot dataset (v3.0).

Numbers keep their values and dtypes. Images keep theirs in zarr and HDF5 (as uint8); LeRobot
encodes them as videos, and what that lost is measured and printed. Depth as uint16 stays as it is
between zarr and HDF5; other depth is left out: train on IN itself, with dataset.depth. Names of
tasks are kept, but no rewards, simulator states and other language.

examples:
  lfm-policy convert pusht_cchi_v7_replay.zarr pusht-lerobot --fps 10 --obs-keys img state
  lfm-policy convert low_dim_v141.hdf5 lift.zarr --filter-key train
  lfm-policy convert pusht-lerobot pusht.hdf5 --rename observation.images.img=image
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

_FORMATS = "zarr, robomimic, lerobot or one of a plugin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN", help="dataset to read")
    parser.add_argument("target", type=Path, metavar="OUT", help="what to write; must not exist")
    parser.add_argument(
        "--from",
        dest="source_format",
        metavar="FORMAT",
        help=f"format of IN: {_FORMATS} (default: detected)",
    )
    parser.add_argument(
        "--to", dest="target_format", metavar="FORMAT", help="format of OUT (default: by its name)"
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
        "--task",
        help="what all episodes show, in words, for LeRobot (default: what IN says of each)",
    )
    parser.add_argument(
        "--crf", type=int, help="quality of LeRobot's videos, 0 (best) to 51; default 18"
    )
    add_common_options(parser, seed_help="without effect: nothing is random here")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.data.tools.convert import ConvertOptions, convert
    from lfm_policy.errors import InputError

    rename = dict(arguments.rename)
    if len(rename) != len(arguments.rename):
        raise InputError("--rename gives one observation two names")
    options = options_of(ConvertOptions, arguments, rename=rename)
    quiet = arguments.quiet or arguments.json
    done = convert(arguments.source, arguments.target, options, quiet=quiet)
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
