"""The examples in the help of the commands: each parses, and names what there is."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from lfm_policy.cli.main import _EPILOG, COMMANDS, build_parser
from lfm_policy.config import load_config
from lfm_policy.config.load import bundled_config_names, changed_config
from lfm_policy.distillation.group import group_edges

Command = Callable[..., Any]


def examples(text: str) -> list[str]:
    """Return the commands of a help text, without the programs before and after them."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r" && | \| | {2,}#", line.strip()) if line.startswith("  ") else ():
            _, command, rest = part.partition("lfm-policy ")
            if command:
                found.append(rest)
    return found


HELP = {
    name: importlib.import_module(f"lfm_policy.cli.{module}").__doc__ or ""
    for name, (module, _) in COMMANDS.items()
}
EXAMPLES = [(name, line) for name, text in HELP.items() for line in examples(text)]
EXAMPLES += [("", line) for line in examples(_EPILOG)]
# A run folder is named after the configuration, where no --output says otherwise.
CONFIGS = {f"runs/{load_config(name).name}": name for name in bundled_config_names()}
# What examples make with a dataset or a robot of one's own.
OWN = {"runs/my_robot", "runs/my-arm", "runs/first"}


def test_every_command_has_examples() -> None:
    assert {name for name, _ in EXAMPLES} == {*COMMANDS, ""}


@pytest.mark.parametrize(("command", "line"), EXAMPLES)
def test_an_example(command: str, line: str) -> None:
    arguments = shlex.split(line)
    assert arguments[0] in COMMANDS
    parsed, late = build_parser().parse_known_args(arguments)
    assert all(re.fullmatch(r"[\w.]+=.+", text) for text in late)  # as `main` takes them
    overrides = [*getattr(parsed, "overrides", []), *late]
    name = getattr(parsed, "config", None) or ""  # not needed with --resume RUN and --init-from
    if parsed.command == "train" and name and "=" not in name and not name.endswith(".yaml"):
        assert name in bundled_config_names()
        load_config(name, [text.replace("=...", "=x.zarr") for text in overrides])
    for run in re.findall(r"runs/[\w-]+", line):
        base = CONFIGS.get(run)
        if base is None:
            assert run in OWN or "--output" in arguments or f"--output {run}" in HELP[command]
        elif parsed.command == "distill":
            changed_config(load_config(base), overrides, run)


def test_distill_says_all_that_nfe_may_be(command: Command) -> None:
    text = " ".join(command("distill", "--help").out.split())
    assert "a divisor or a multiple of the teacher's number of blocks" in text
    assert group_edges(3, 6)[1] == Fraction(1, 2)
