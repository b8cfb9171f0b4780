"""Docstrings and help texts as the markdown of the reference."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
_FLAG_OR_PAGE = re.compile(r"((?<![\w`/-])--[a-z][a-z-]*|\bdocs/[\w/]+(?:\.md|/))")
_SPECIAL = re.compile(r"[*<>\[\]|]|_(?=_)|(?<=_)_|(?<!\w)_|_(?!\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "|": "&#124;"}
"""Characters that no backslash makes plain."""


def prose(text: str) -> str:
    """Return a plain text as markdown: what markdown would read as marks stays what it is.

    What stands in backticks already is code, and so are flags of commands. Pages of the
    documentation become links, for a page in ``docs/reference``.
    """
    parts = _CODE.split(" ".join(text.split()))
    return "".join(code(part.strip("`")) if i % 2 else _plain(part) for i, part in enumerate(parts))


def code(text: str) -> str:
    """Return a text as code within a line."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _plain(text: str) -> str:
    parts = _FLAG_OR_PAGE.split(text)
    return "".join(
        _marked(part) if i % 2 else _SPECIAL.sub(_escaped, part) for i, part in enumerate(parts)
    )


def _marked(text: str) -> str:
    if text.startswith("--"):
        return code(text)
    page = text.removeprefix("docs/")
    return f"[{text}](../{page}{'index.md' if page.endswith('/') else ''})"


def _escaped(found: re.Match[str]) -> str:
    return _ENTITIES.get(found[0], f"\\{found[0]}")


def blocks(text: str, *, language: str = "text") -> Iterator[str]:
    """Yield the paragraphs of a docstring as markdown, what is indented as fenced code.

    Args:
        text: a docstring, or a part of one.
        language: of what is indented; below a line "examples:" it is bash.
    """
    language_here = language
    for paragraph in _paragraphs(textwrap.dedent(text).strip("\n")):
        if paragraph.startswith(" "):
            yield f"```{language_here}\n{textwrap.dedent(paragraph)}\n```"
            language_here = language
            continue
        said = paragraph[:-1] if paragraph.endswith("::") else paragraph
        if said.startswith("examples:"):
            language_here, said = "bash", "Examples:"
        yield prose(said)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield runs of lines that are indented, and runs of lines that are not."""
    run: list[str] = []
    for line in text.splitlines():
        begins = run and line.strip() and line.startswith(" ") != run[0].startswith(" ")
        ends = not line.strip() and run and not run[0].startswith(" ")
        if begins or ends:
            yield "\n".join(run).rstrip()
            run = []
        if line.strip() or run:
            run.append(line)
    if run:
        yield "\n".join(run).rstrip()
