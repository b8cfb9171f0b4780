"""The command ``lfm-policy``."""

# Imports that take long are in the functions: Ctrl-C finds them there, not here.
from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
EXIT_CTRL_C = 130
"""What shells give for a process that SIGINT ended."""

_EPILOG = """\
exit codes: 0 done, 1 failed, or stopped by a signal with everything saved, 2 bad input, or a path
or disk that cannot be used (one message on standard error), 3 'export --check' found another
result, 130 ended by Ctrl-C

a first session:
  lfm-policy demo

with demonstrations of your own robot:
  lfm-policy init my_robot.hdf5
  lfm-policy train my_robot.yaml
  lfm-policy check runs/my_robot

with those of PushT (lfm-policy download pusht):
  lfm-policy train pusht/fm
  lfm-policy eval runs/pusht-fm --episodes 50 --nfe 1 2 4 8 --video 4
  lfm-policy inspect runs/pusht-fm
"""


COMMANDS = {
    "demo": ("policies.demo", "train, distil, evaluate and film on bundled data; writes a page"),
    "init": ("data.init", "look at a dataset and write a configuration for it"),
    "train": ("policies.train", "train a policy"),
    "distill": ("policies.distill", "distil a trained policy to few network evaluations"),
    "import": (
        "policies.import_policy",
        "take a diffusion policy of LeRobot, Diffusion Policy or robomimic",
    ),
    "check": ("policies.check", "say whether a policy is any good, without a simulator"),
    "eval": ("policies.evaluate", "roll out a policy in simulation"),
    "export": ("policies.export", "write a policy as one ONNX graph that needs no torch"),
    "push": ("policies.push", "publish a policy on the Hugging Face hub, with a model card"),
    "extract": ("data.extract", "replay recorded simulator states and write their observations"),
    "inspect": ("data.inspect", "describe a dataset, a checkpoint or a run"),
    "convert": ("data.convert", "convert demonstrations between zarr, robomimic and LeRobot"),
    "collect": ("data.collect", "make demonstrations with scripted experts"),
    "download": ("data.download", "download public demonstrations (robomimic, PushT)"),
    "serve": ("robots.serve", "serve a policy to robots over a network"),
    "control": ("robots.control", "run a policy in real time"),
    "replay": ("robots.replay", "look at a recording of the control loop"),
}
"""Name -> module in `lfm_policy.cli`, and what it does in one line; see `CommandParser`."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands."""
    import argparse

    from lfm_policy.cli.common import CommandParser
    from lfm_policy.version import __version__

    parser = argparse.ArgumentParser(
        prog="lfm-policy",
        description="Train, evaluate and inspect action-chunk policies by Local Flow Matching.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lfm-policy {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    for name, (module, purpose) in COMMANDS.items():
        commands.add_parser(name, module=f"lfm_policy.cli.{module}", help=purpose)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_CTRL_C


def _run(arguments: Sequence[str] | None) -> int:
    from lfm_policy.cli.ctrl_c import raised_by_ctrl_c

    with raised_by_ctrl_c():
        parser = build_parser()
        given = sys.argv[1:] if arguments is None else list(arguments)
        if given and not given[0].startswith("-") and given[0] not in COMMANDS:
            from lfm_runtime.registry import nearest_names

            hint = nearest_names(given[0], list(COMMANDS))
            parser.error(f"argument COMMAND: invalid choice: '{given[0]}': {hint}")
        parsed, extra = parser.parse_known_args(given)
        if extra:
            # argparse takes `distill X a=1 --resume` but not `distill X --resume a=1`. What `train`
            # begins with may be left out, which old versions think of all that follows an option.
            late = [
                text
                for text in extra
                if not text.startswith("-") and ("=" in text or parsed.command == "train")
            ]
            if not hasattr(parsed, "overrides") or late != extra:
                from lfm_policy.cli.common import nearest_flags

                hint = nearest_flags(parsed.parser, extra)
                parsed.parser.error(f"unrecognized arguments: {' '.join(extra)}{hint}")
            parsed.overrides = [*parsed.overrides, *late]
        from lfm_policy.errors import (
            CollectError,
            EvaluationError,
            InputError,
            Interrupted,
            RobotError,
            TrainingError,
        )
        from lfm_policy.text.warned import one_line_warnings
        from lfm_runtime.errors import PolicyServerError

    try:
        with raised_by_ctrl_c(), one_line_warnings():
            if parsed.plugin:
                from lfm_runtime.plugins import load_plugin

                for name in parsed.plugin:
                    load_plugin(name)
            code: int = parsed.run(parsed)
            sys.stdout.flush()  # so that what can go wrong with it goes wrong here
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except (TrainingError, CollectError, EvaluationError, Interrupted) as error:
        print(f"{type(error).__name__.lower()}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        import os

        # The reader has gone (`| head`); Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    # A server that cannot be reached or answers with an error, a policy that gives no numbers, a
    # robot that fails.
    except (
        ConnectionError,
        TimeoutError,
        FloatingPointError,
        PolicyServerError,
        RobotError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:  # a path that cannot be written or read, a disk without room
        from lfm_runtime.disk.full import explain

        print(f"error: {explain(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT


def entry_point() -> None:
    """Run one command and exit, without a traceback whenever Ctrl-C comes."""
    code = EXIT_CTRL_C
    try:
        from lfm_policy.cli.ctrl_c import ends_at_once, watch_lost_interrupts

        watch_lost_interrupts()
        try:
            code = main()
        finally:
            # The exit code is known, and nothing is left to be undone.
            ends_at_once(EXIT_CTRL_C)
    except KeyboardInterrupt:
        pass
    sys.exit(code)
