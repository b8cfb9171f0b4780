"""The reference of the commands, from their parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from reference_markdown import blocks, code, prose

from lfm_policy.cli.common import CommandParser
from lfm_policy.cli.main import COMMANDS, build_parser

PROGRAM = "lfm-policy"
SHARED = ("--seed", "--device", "--json", "--quiet", "--plugin")
"""Options of nearly every command, which come last."""


def command_parsers() -> dict[str, CommandParser]:
    """Return the parsers of all commands by name, complete."""
    parsers: dict[str, CommandParser] = {}
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            parsers = dict(action.choices)
    for parser in parsers.values():
        parser.complete()
    return parsers


def commands_overview() -> str:
    """Return a table of all commands."""
    rows = [
        f"| [`{name}`](#{name}) | {prose(purpose)} |" for name, (_, purpose) in COMMANDS.items()
    ]
    return "\n".join(["| command | what it does |", "| --- | --- |", *rows])


def commands_reference() -> str:
    """Return a section for each command: purpose, synopsis, arguments, options, examples."""
    return "\n\n".join(
        part for name, parser in command_parsers().items() for part in _command(name, parser)
    )


def _command(name: str, parser: CommandParser) -> Iterator[str]:
    yield f"## {name} {{#{name}}}"
    yield from blocks(parser.description or "")
    yield f"```text\n{_synopsis(name, parser)}\n```"
    shown = {"positional arguments": "arguments", "options": "options"}
    groups = {
        shown.get(group.title or "", f"options: {group.title}"): group._group_actions
        for group in parser._action_groups
    }
    own: list[argparse.Action] = []
    shared: list[argparse.Action] = []
    for action in groups["options"]:
        if not isinstance(action, argparse._HelpAction):
            (shared if action.option_strings[-1] in SHARED else own).append(action)
    groups["options"] = own
    groups["options of most commands"] = shared
    for title, actions in groups.items():
        if actions:
            yield f"**{title[0].upper()}{title[1:]}**"
            yield "\n\n".join(_argument(name, action) for action in actions)
    yield from blocks(parser.epilog or "")


def _synopsis(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the command with what it needs, its options in short."""
    words = [PROGRAM, name]
    actions = parser._actions
    words += [_positional(action) for action in actions if not action.option_strings]
    words += [_flags(a)[-1] for a in actions if a.option_strings and a.required]
    return " ".join([*words, "[options]"])


def _positional(action: argparse.Action) -> str:
    name = _placeholder(action)
    shown = name if "=" in name else name.upper()
    if action.nargs == "*":
        return f"[{shown} ...]"
    return f"[{shown}]" if action.nargs == "?" else shown


def _placeholder(action: argparse.Action) -> str:
    if action.metavar is not None:
        return " ".join([action.metavar] if isinstance(action.metavar, str) else action.metavar)
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest if not action.option_strings else action.dest.upper()


def _flags(action: argparse.Action) -> list[str]:
    """Return the ways to write an option, each with what follows it."""
    if action.nargs == 0:
        return list(action.option_strings)
    value = _placeholder(action)
    value = {"?": f"[{value}]", "+": f"{value} ..."}.get(str(action.nargs), value)
    # Long names last: it is these that others know it by.
    flags = sorted(action.option_strings, key=lambda flag: flag.startswith("--"))
    return [f"{flag} {value}" for flag in flags]


def _argument(command: str, action: argparse.Action) -> str:
    """Return an argument as an entry of a list of definitions."""
    if isinstance(action, argparse.BooleanOptionalAction):
        names: Sequence[str] = action.option_strings
    elif action.option_strings:
        names = _flags(action)
    else:
        names = [_positional(action)]
    dest = action.option_strings[-1] if action.option_strings else action.dest
    anchor = f"{command}--{dest.lstrip('-')}"
    term = ", ".join(code(name) for name in names[:-1])
    term = f"{term}, " if term else ""
    help_text = prose(action.help or "")
    if action.default not in (None, False, [], argparse.SUPPRESS) and "default" not in help_text:
        help_text += f"; default {action.default}"
    needed = " (needed)" if action.option_strings and action.required else ""
    return f"{term}{code(names[-1])}{{ #{anchor} }}{needed}\n:   {help_text}"
