"""Tables on the terminal, of which nothing is cut off."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Collection, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

UNLIMITED = 100_000
"""Characters in a line of a file or a pipe."""

_LEAST_WORDS = 24
"""Characters to which a column of words may shrink, by wrapping."""
_GAP = 2
"""Characters between columns: padding, and what the line below the headers is drawn in."""


def terminal_columns() -> int:
    """Return how many characters fit into a line of standard output.

    What is no terminal has lines of any length, unless the variable COLUMNS says otherwise.
    """
    return shutil.get_terminal_size((80 if sys.stdout.isatty() else UNLIMITED, 24)).columns


class TextTable:
    """A table that is printed as wide as it is, or in parts that fit.

    The first column says what the others are of. Numbers are never broken, words are wrapped;
    where that is not enough, the columns that have no room follow below, with the first one again.

        table = TextTable("part", "steps", "loss", title="blocks")
        table.add_row("block 1", "2,500", "0.0041")
        table.print()
    """

    def __init__(self, *headers: str, title: str = "", words: Collection[str] = ()) -> None:
        """Make a table without rows.

        Args:
            headers: of the columns.
            title: above it.
            words: headers of columns that hold words and not numbers.
        """
        self._headers, self._title = headers, title
        self._words = frozenset(words)
        self._rows: list[Sequence[str]] = []

    def add_row(self, *cells: str) -> None:
        """Add a row; cells that are left out at its end are empty."""
        self._rows.append([*cells, *[""] * (len(self._headers) - len(cells))])

    def print(self) -> None:
        """Print it to standard output, see `terminal_columns`."""
        self._print_to(Console(width=terminal_columns(), highlight=False))

    def text(self, columns: int = UNLIMITED) -> str:
        """Return what is printed where a line has so many characters."""
        console = Console(width=columns, file=io.StringIO(), highlight=False)
        with console.capture() as printed:
            self._print_to(console)
        return printed.get()

    def _print_to(self, console: Console) -> None:
        if self._title:
            console.print(Text(self._title, "bold"), soft_wrap=True)
        for number, places in enumerate(self._parts(console.width)):
            if number:
                console.print()
            console.print(self._part(places, console.width))

    def _parts(self, room: int) -> list[list[int]]:
        """Return the columns of each part, the first one in all of them."""
        widths = [
            min(self._width(place), _LEAST_WORDS)
            if self._wraps(place, room)
            else self._width(place)
            for place in range(len(self._headers))
        ]
        parts = [[0]]
        for place in range(1, len(widths)):
            needed = sum(widths[k] + _GAP for k in (*parts[-1], place))
            if needed > room and len(parts[-1]) > 1:
                parts.append([0])
            parts[-1].append(place)
        return parts

    def _width(self, place: int) -> int:
        """Return the characters of the widest cell of a column."""
        return max(map(cell_len, (self._headers[place], *(row[place] for row in self._rows))))

    def _wraps(self, place: int, room: int) -> bool:
        """Return whether a column may be made narrower: words may, and very long names."""
        return self._headers[place] in self._words or (place == 0 and self._width(0) > room // 2)

    def _part(self, places: Sequence[int], room: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for place in places:
            table.add_column(
                self._headers[place],
                justify="left" if place == 0 or self._headers[place] in self._words else "right",
                no_wrap=not self._wraps(place, room),
                # What has no room for one word of it is broken, and not cut off.
                overflow="fold",
            )
        for row in self._rows:
            # Text, because rich would read the brackets of `action[0]` as markup.
            table.add_row(*(Text(row[place]) for place in places))
        return table
