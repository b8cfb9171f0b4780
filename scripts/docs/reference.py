"""Fills the pages of the reference in when the site is built (a hook of mkdocs).

A page in ``docs/reference`` has its introduction written by hand and lines such as
``<!-- made: commands -->``, in whose place stands what the code says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from reference_bundled import bundled_parts, bundled_reference, plain_students
from reference_commands import commands_overview, commands_reference
from reference_options import common_options, configuration_reference

MADE: dict[str, Callable[[], str]] = {
    "commands": commands_reference,
    "commands overview": commands_overview,
    "configuration": configuration_reference,
    "common options": common_options,
    "bundled aloha": lambda: bundled_reference("aloha"),
    "bundled own": lambda: bundled_reference("own"),
    "bundled pusht": lambda: bundled_reference("pusht"),
    "bundled metaworld": lambda: bundled_reference("metaworld"),
    "bundled parts": bundled_parts,
    "plain students": plain_students,
    "bundled robomimic": lambda: bundled_reference("robomimic"),
}
"""What may stand in a line ``<!-- made: ... -->``, and what makes it."""

_LINE = re.compile(r"^<!-- made: (.+) -->$", re.MULTILINE)

SHORT_CONTENTS = {
    "reference/bundled.md": 2,
    "reference/configuration.md": 2,
    "reference/python.md": 3,
    "reference/python_extending.md": 3,
    "reference/python_flow.md": 3,
}
"""Pages with a heading for every option or method: how deep the contents beside the page go."""


def filled_in(markdown: str) -> str:
    """Return a page with what is made in place of the lines that stand for it.

    Raises:
        KeyError: a line names nothing that is made here.
    """
    return _LINE.sub(lambda line: MADE[line[1]](), markdown)


def on_page_markdown(markdown: str, **given: Any) -> str:
    """Fill a page in, before mkdocs reads its markdown."""
    return filled_in(markdown)


def on_page_content(html: str, *, page: Any, **given: Any) -> str:
    """Shorten the contents beside pages that have hundreds of headings."""
    deepest = SHORT_CONTENTS.get(page.file.src_uri)
    if deepest is not None:
        _shorten(page.toc, deepest)
    return html


def _shorten(links: Iterable[Any], deepest: int) -> None:
    for link in links:
        if link.level >= deepest:
            link.children = []
        _shorten(link.children, deepest)
