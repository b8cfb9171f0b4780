"""What pages of results must keep to, beside the right numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from resultpages.tables import MOST_COLUMNS

MEASURED = re.compile(
    r"(?<![\w.])[+-]?\d\.\d{3}(?![\w.]*\d)"  # scores, successes, their differences
    r"|(?<![\w/.])\d[\d,]*/\d{2,}(?![\w/])"  # 376/600
    r"|\bp\s*[=<>]\s*\d"
    r"|\b\d[\d.,]*\s?ms\b"
)
"""What no one types: these numbers come from expressions."""

_FENCE = re.compile(r"^\s*(```|~~~)")
_CODE = re.compile(r"`[^`]*`")
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)

Found = tuple[int, str]
"""A line, from 1, and what is there."""


def prose(text: str) -> Iterator[Found]:
    """Yield the lines that are not in blocks of code, without what is code inside them."""
    inside = False
    for number, line in enumerate(text.split("\n"), start=1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, _CODE.sub(lambda found: " " * len(found[0]), line)


def typed_numbers(template: str) -> list[Found]:
    """Return the measured numbers that stand in a template's text itself.

    Settings, such as a step of 0.003, are written as code.
    """
    blank = _EXPRESSION.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), template)
    return [(line, found[0]) for line, text in prose(blank) for found in MEASURED.finditer(text)]


def wide_tables(page: str) -> list[Found]:
    """Return the rows of tables with too many columns."""
    rows = [(line, text.strip()) for line, text in prose(page)]
    return [
        (line, row)
        for line, row in rows
        if row.startswith("|") and row.endswith("|") and row.count("|") - 1 > MOST_COLUMNS
    ]


def internal_names(page: str, names: Collection[str]) -> list[Found]:
    """Return the names of models that only the project itself knows.

    What is a word as well, such as ``regression``, is none: a name has a digit or a hyphen.
    """
    own = sorted(name for name in names if re.search(r"[\d-]", name))
    if not own:
        return []
    pattern = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, own))})(?![\w/-])")
    found, inside = [], False
    for number, line in enumerate(page.split("\n"), start=1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            found += [(number, name[0]) for name in pattern.finditer(line)]
    return found
