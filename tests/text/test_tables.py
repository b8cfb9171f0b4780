"""Tables of which nothing is cut off, however narrow the terminal is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lfm_policy.text.tables import TextTable, terminal_columns

CELLS = [f"{k}{k}.{k}{k}{k}" for k in range(1, 9)]
REMARK = "a remark of several words that are too many for a narrow terminal"


@pytest.fixture
def table() -> TextTable:
    made = TextTable("key", *(f"column {k}" for k in range(8)), "remark", words=["remark"])
    made.add_row("observation.state[0]", *CELLS, REMARK)
    made.add_row("[bold]action[1]", *CELLS[::-1])
    return made


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 1000])
def test_every_cell_is_there_and_every_line_fits(table: TextTable, columns: int) -> None:
    text = table.text(columns)
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    for cell in CELLS:
        assert text.count(cell) == 2
    words = text.split()
    assert all(word in words for word in REMARK.split())
    # Each part begins with what its numbers are of.
    parts = text.count("observation.state[0]")
    assert parts == text.count("[bold]action[1]") >= 1
    assert (parts == 1) == (columns > 120) and "…" not in text


def test_wide_enough_is_one_line_per_row(table: TextTable) -> None:
    assert len(table.text().splitlines()) == 2 + 2
    assert REMARK in table.text()


def test_narrower_than_a_key() -> None:
    made = TextTable("key", "number", title="a title that is wider, too")
    made.add_row("a_very_long_name_of_something", "12.5")
    text = made.text(12)
    assert "".join(line[:11].strip() for line in text.splitlines()).count("name") >= 1
    assert "12.5" in text and "…" not in text


PROGRAM = """
from lfm_policy.text.tables import TextTable
table = TextTable("a", *(f"column_{k}" for k in range(30)))
table.add_row("b", *map(str, range(30)))
table.print()
"""


@pytest.mark.parametrize(("columns", "parts"), [(None, 1), (80, 5)])
def test_a_pipe_is_as_wide_as_it_takes(columns: int | None, parts: int) -> None:
    # Readline, which pytest imports, puts COLUMNS into what programs inherit.
    variables = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    if columns is not None:
        variables["COLUMNS"] = str(columns)
    run = [sys.executable, "-c", PROGRAM]
    text = subprocess.run(run, capture_output=True, text=True, check=True, env=variables).stdout
    assert sum(line.startswith("b ") for line in text.splitlines()) == parts
    assert "column_29" in text


def test_columns_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "47")
    assert terminal_columns() == 47
