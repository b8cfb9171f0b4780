"""Tables of docs/results.md: each stands between two markers and is written by one script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lfm_runtime.disk.files import write_json, write_text


def table_lines(columns: str, rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a markdown table; ``columns`` has its heads with ``|`` between them."""
    rule = " | ".join("---" for _ in columns.split(" | "))
    return [f"| {row} |" for row in (columns, rule, *(" | ".join(map(str, r)) for r in rows))]


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


def publish(name: str, lines: Sequence[str], results: Path | None, archive: object = None) -> None:
    """Print a table; with a folder of results.md also write it there, and what it is made from.

    Args:
        name: of the table and of its archive.
        lines: of markdown.
        results: folder of results.md.
        archive: what to keep as JSON; None: nothing.
    """
    print("\n".join(lines))
    if results is None:
        return
    if archive is not None:
        write_json(results / "results" / "data" / f"{name}.json", archive)
    put_table(results, name, lines)
