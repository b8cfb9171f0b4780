"""The blocks of a page: what is run, what is written to a file, and what is not run and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

OPENING = re.compile(r"^(?P<indent>[ ]*)(?P<fence>```+)(?P<language>[\w-]*)(?P<rest>.*)$")
TITLE = re.compile(r'title="([^"]+)"')
NOT_RUN = re.compile(r"^\s*<!--\s*not run(?::(?P<reason>.*?))?-->\s*$")
RUN = ("bash", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: that of the fence; empty: none.
        code: its lines.
        line: number of its first line of code in the page.
        title: the file it is written to; empty: none.
        reason: why it is not run, perhaps empty; None: it is.
    """

    language: str
    code: str
    line: int
    title: str = ""
    reason: str | None = None

    @property
    def is_run(self) -> bool:
        """Whether the block is executed."""
        return self.language in RUN and not self.title and self.reason is None


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    lines, found, at = text.split("\n"), list[Block](), 0
    reason: str | None = None
    while at < len(lines):
        line = lines[at]
        at += 1
        if mark := NOT_RUN.match(line):
            reason = (mark["reason"] or "").strip()
            continue
        opening = OPENING.match(line)
        if opening is None:
            if line.strip():
                reason = None  # it stands before something else than a block
            continue
        start, closing = at, opening["indent"] + opening["fence"]
        while at < len(lines) and lines[at].rstrip() != closing:
            at += 1
        code = [code.removeprefix(opening["indent"]) for code in lines[start:at]]
        title = TITLE.search(opening["rest"])
        found.append(
            Block(
                language=opening["language"],
                code="\n".join(code) + "\n",
                line=start + 1,
                title=title[1] if title else "",
                reason=reason,
            )
        )
        reason = None
        at += 1
    return found


def stray_marks(text: str) -> list[int]:
    """Return the lines of marks ``not run`` that stand before no block."""
    marks = [n for n, line in enumerate(text.split("\n"), 1) if NOT_RUN.match(line)]
    marked = sum(block.reason is not None for block in blocks_of(text))
    return marks if len(marks) != marked else []


def pages() -> list[Path]:
    """Return the pages whose snippets are run.

    Not those of results, which show commands that take days, and not docs/extending.md, whose
    whole module is run and looked at by tests/plugins/test_outside.py.
    """
    docs = ROOT / "docs"
    found = [page for page in sorted(docs.rglob("*.md")) if page.parent != docs / "results"]
    found = [page for page in found if page != docs / "extending.md"]
    return [ROOT / "README.md", *found]
