"""Options that every command has."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def non_negative(text: str) -> int:
    """Parse an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def add_common_options(parser: argparse.ArgumentParser, *, seed_help: str) -> None:
    """Add ``--seed``, ``--device`` and ``--json``."""
    parser.add_argument("--seed", type=non_negative, default=None, help=seed_help)
    parser.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda or cuda:<number>"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of text and tables"
    )


def add_runner_options(parser: argparse.ArgumentParser, *, local_cluster: str) -> None:
    """Add ``--runner`` and ``--ray-address``, whose default is described by ``local_cluster``."""
    parser.add_argument(
        "--runner",
        choices=("local", "ray"),
        default="local",
        help="where episodes run: on this machine, or as tasks of a Ray cluster (extra 'ray')",
    )
    parser.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help=f"running cluster, such as auto (default: {local_cluster})",
    )


def add_sampler_options(parser: Any, *, solvers: str, several_nfe: bool = False) -> None:
    """Add ``--nfe``, ``--solver`` and ``--noise-scale``.

    Args:
        parser: or a group of one.
        solvers: names for the help.
        several_nfe: whether ``--nfe`` takes several numbers.
    """
    more = "; several give several rows" if several_nfe else ""
    parser.add_argument(
        "--nfe",
        type=positive,
        nargs="+" if several_nfe else None,
        help=f"network evaluations per chunk{more} (default: as configured)",
    )
    parser.add_argument("--solver", help=f"{solvers} (default: as configured)")
    parser.add_argument(
        "--noise-scale",
        type=float,
        help="standard deviation of the noise that sampling starts from (default: as configured)",
    )


def add_run_options(parser: argparse.ArgumentParser, *, output_help: str) -> None:
    """Add what every command that trains has: overrides, output, resuming, quiet."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changed options")
    parser.add_argument("--output", type=Path, help=output_help)
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in the run folder"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_common_options(parser, seed_help="the same as the option seed=...")


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides, ``--seed`` among them."""
    overrides = list(arguments.overrides)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    return overrides


def print_json(value: Any) -> None:
    """Print one JSON object to standard output."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    print()
