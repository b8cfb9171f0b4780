"""The command ``lfm-policy``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from lfm_policy.errors import InputError
from lfm_policy.version import __version__
from lfm_runtime.disk import explain

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2

_EPILOG = """\
exit codes: 0 done, 1 failed or interrupted, 2 bad input, or a path or disk that cannot be used (one
message on standard error)

a first session:
  lfm-policy demo
  lfm-policy train pusht/fm dataset.path=pusht_cchi_v7_replay.zarr
  lfm-policy eval runs/pusht-fm --episodes 50 --nfe 1 2 4 8 --video 4
  lfm-policy inspect runs/pusht-fm
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    from lfm_policy.cli import (
        collect,
        control,
        convert,
        demo,
        distill,
        download,
        evaluate,
        export,
        extract,
        inspect,
        replay,
        serve,
        train,
    )

    parser = argparse.ArgumentParser(
        prog="lfm-policy",
        description="Train, evaluate and inspect action-chunk policies by Local Flow Matching.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lfm-policy {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        demo,
        train,
        distill,
        evaluate,
        export,
        extract,
        inspect,
        convert,
        collect,
        download,
        serve,
        control,
        replay,
    ):
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    parsed, extra = parser.parse_known_args(arguments)
    if extra:
        # argparse takes `train CONFIG a=1 --resume` but not `train CONFIG --resume a=1`.
        late = [text for text in extra if "=" in text and not text.startswith("-")]
        if parsed.command not in ("demo", "train", "distill") or late != extra:
            parser.error(f"unrecognized arguments: {' '.join(extra)}")
        parsed.overrides = [*parsed.overrides, *late]
    # These import torch, which `lfm-policy --help` does not need.
    from lfm_policy.collect.errors import CollectError
    from lfm_policy.evaluation.errors import EvaluationError
    from lfm_policy.training.errors import TrainingError
    from lfm_policy.training.interrupt import Interrupted

    try:
        code: int = parsed.run(parsed)
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (TrainingError, CollectError, EvaluationError, Interrupted) as error:
        print(f"{type(error).__name__.lower()}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (ConnectionError, TimeoutError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:  # a path that cannot be written or read, a disk without room
        print(f"error: {explain(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT


def entry_point() -> None:
    """Run one command and exit."""
    sys.exit(main())
