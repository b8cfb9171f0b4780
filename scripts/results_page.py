"""Tables of docs/results.md: each stands between two markers and is written by one script."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lfm_runtime.disk.files import write_text


def put_table(results: Path, name: str, lines: Iterable[str]) -> None:
    """Replace what is between ``<!-- table NAME -->`` and ``<!-- end NAME -->`` in results.md.

    Args:
        results: folder of results.md.
        name: of the table.
        lines: of markdown.

    Raises:
        SystemExit: the page has no such markers.
    """
    page = results / "results.md"
    begin, end = f"<!-- table {name} -->\n", f"<!-- end {name} -->"
    head, found, rest = page.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page}: the markers {begin.strip()} and {end} are missing")
    write_text(page, head + begin + "".join(f"{line}\n" for line in lines) + end + tail)
