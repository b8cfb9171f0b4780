"""Every message that the page of troubleshooting quotes is one that the software says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guides" / "troubleshooting.md"
SOURCES = ("lfm_policy", "envs", "runtime/lfm_runtime")
HOLE = "…"
"""Stands for names and numbers, in the page and in what is read of the sources."""
ROW = re.compile(r"^\| `(?P<message>[^`]+)` \| (?P<cure>.+) \|$")


def quoted() -> list[str]:
    """Return the messages of the page, the first cells of its tables."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    found = [ROW.match(row) for row in rows]
    assert all(found), f"a row of another form: {rows[found.index(None)]}"
    return [match["message"] for match in found if match]


@cache
def said() -> list[str]:
    """Return all texts of the sources that are no docstrings, with holes for what is filled in."""
    texts = []
    for source in SOURCES:
        for file in sorted((ROOT / source).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            texts += [_text(node) for node in ast.walk(tree) if id(node) not in alone]
    return [text for text in texts if text]


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return ""


def is_said(message: str) -> bool:
    """Whether the literal parts of a message stand, in order, in one text of the sources."""
    parts = [part for part in message.split(HOLE) if part.strip(" '().,:;")]
    wanted = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
    return any(wanted.search(text) for text in said())


@pytest.mark.parametrize("message", sorted(set(quoted())))
def test_what_is_quoted_is_said(message: str) -> None:
    assert is_said(message), "no source says this any more: change docs/guides/troubleshooting.md"


def test_what_nobody_says_is_found() -> None:
    assert not is_said("obs_keys is empty, so the robot would see nothing")
    assert not is_said("would see nothing … obs_keys is empty")


def test_the_page_has_the_messages_that_most_people_meet() -> None:
    messages = quoted()
    assert len(messages) >= 40
    assert len(set(messages)) == len(messages)
