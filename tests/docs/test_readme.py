"""The README stays short, and its commands follow from one another.

That they run is tested by test_snippets.py, its numbers by test_results.py, its links by
tests/test_structure.py.
"""

from __future__ import annotations

import re
import shlex

from snippets.pages import ROOT, blocks_of

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 120


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES


def test_five_jobs_with_a_command_each() -> None:
    jobs = [block for block in blocks_of(TEXT) if "lfm-policy" in block.code and block.is_run]
    assert len(jobs) == 1
    commands = [shlex.split(line, comments=True) for line in jobs[0].code.splitlines()]
    assert [command[:2] for command in commands] == [
        ["lfm-policy", job] for job in ("init", "train", "check", "distill", "export")
    ]


def test_every_run_folder_is_made_by_a_command_before() -> None:
    """Each ``runs/NAME`` belongs to a configuration that is trained on the page."""
    trained = {f"runs/{name}" for name in re.findall(r"lfm-policy train (\w+)\.yaml", TEXT)}
    assert trained
    for match in re.finditer(r"runs/[\w-]+", TEXT):
        assert match[0] in trained
        name = match[0].removeprefix("runs/")
        assert match.start() > TEXT.index(f"lfm-policy train {name}.yaml")
