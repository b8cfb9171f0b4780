"""Options that every command has."""

from __future__ import annotations

import argparse
import json
import sys
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


def print_json(value: Any) -> None:
    """Print one JSON object to standard output."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    print()
