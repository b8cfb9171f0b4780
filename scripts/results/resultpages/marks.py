"""Numbers between marks, in pages that people write.

The student solves <!-- number few_steps.two.success -->0.640<!-- /number --> of the episodes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from lfm_policy.errors import InputError
from resultpages import TEMPLATES

MARK = re.compile(r"(<!-- number ([a-z][\w.]*) -->)(.*?)(<!-- /number -->)")
_BEGIN = re.compile(r"<!-- number [a-z]")


def marked_files(root: Path) -> list[Path]:
    """Return the files in which numbers may be marked: those that no script writes."""
    written = {template.name for template in TEMPLATES.glob("*.md")}
    pages = [path for path in sorted((root / "docs").rglob("*.md"))]
    own = [p for p in pages if p.parent != root / "docs" / "results" or p.name not in written]
    others = [root / name for name in ("README.md", "lfm_policy/assets/README.md")]
    return [path for path in [*others, *own] if path.exists()]


def filled(text: str, path: str, number: Callable[[str], str]) -> str:
    """Return a text with the number that belongs between every two marks.

    Args:
        text: of the page.
        path: of the page, for messages.
        number: returns the number of a name.

    Raises:
        InputError: a mark without its end, or of a number that there is not.
    """
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if len(_BEGIN.findall(line)) != len(MARK.findall(line)):
            raise InputError(
                f"{path}:{at + 1}: a mark of a number without <!-- /number --> in its line"
            )
        try:
            lines[at] = MARK.sub(lambda found: f"{found[1]}{number(found[2])}{found[4]}", line)
        except InputError as error:
            raise InputError(f"{path}:{at + 1}: {error}") from error
    return "\n".join(lines)
