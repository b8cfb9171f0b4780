"""Download public demonstrations from their official locations and check them.

names: pusht and robomimic/TASK/SOURCE (low-dimensional), robomimic/TASK/SOURCE/raw,
robomimic/TASK/SOURCE/image, with TASK lift, can, square, tool_hang or transport and SOURCE ph
(one proficient operator) or mh (several). --list prints them all.

A download that was interrupted goes on where it ended. What is there already is only checked.

examples:
  lfm-policy download robomimic/lift/ph
  lfm-policy download pusht robomimic/can/ph --output /data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfm_policy.cli.common import add_common_options, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as robomimic/lift/ph")
    parser.add_argument(
        "--output", type=Path, default=Path("data"), help="the data folder (default: data)"
    )
    parser.add_argument("--list", action="store_true", help="print all names and where they are")
    add_common_options(parser, seed_help="without effect: nothing is random here")


def run(arguments: argparse.Namespace) -> int:
    from lfm_policy.data.download.download import download
    from lfm_policy.data.download.locations import find_location
    from lfm_policy.errors import InputError

    if arguments.list:
        return _list(arguments)
    if not arguments.names:
        raise InputError("nothing to download was named; --list prints what there is")
    locations = {name: find_location(name) for name in arguments.names}  # all names first
    report = {}
    for name, location in locations.items():
        done = download(location, arguments.output, quiet=arguments.quiet or arguments.json)
        report[name] = done.to_dict()
        if arguments.json:
            continue
        print(f"{name}: {done.path} ({'downloaded' if done.fetched else 'was there'})")
        if done.sha256 is not None:
            print(
                f"  {done.size:,} bytes, SHA-256 {done.sha256}: "
                + ("as stated officially" if done.official else "recorded, none is stated")
            )
        if location.note:
            print(f"  note: {location.note}")
    if arguments.json:
        print_json(report)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from lfm_policy.data.download.download import address
    from lfm_policy.data.download.locations import LOCATIONS

    rows = {
        name: {
            "url": address(location),
            "path": str(arguments.output / location.path),
            "size": location.size,
            "sha256": location.sha256,
            "note": location.note,
        }
        for name, location in LOCATIONS.items()
    }
    if arguments.json:
        print_json(rows)
        return 0
    for name, row in rows.items():
        size = f" ({row['size']:,} bytes)" if row["size"] else ""
        print(f"{name}{size}\n  {row['url']}\n  -> {row['path']}")
        if row["note"]:
            print(f"  note: {row['note']}")
    return 0
