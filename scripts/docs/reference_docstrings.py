"""Docstrings as the pages show them (an extension of griffe, which reads them).

Ours write blocks of code as reStructuredText does, after ``::``; pages are markdown.
"""

from __future__ import annotations

import ast
import re
import textwrap
from typing import Any

from griffe import Extension, Object

_LITERAL = re.compile(
    r"^(?P<indent>[ ]*)(?P<text>.*?)::[ ]*\n(?P<block>(?:[ ]*\n|(?P=indent)[ ]{4,}.*(?:\n|\Z))+)",
    re.MULTILINE,
)
_ROLE = re.compile(r":(?:class|meth|func|mod|attr):(`[^`]+`)")


class Markdown(Extension):
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: Object, **given: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = in_markdown(obj.docstring.value)


def in_markdown(docstring: str) -> str:
    """Return a docstring with fenced blocks in place of those that follow ``::``."""
    return _LITERAL.sub(_fenced, _ROLE.sub(r"\1", docstring))


def _fenced(found: re.Match[str]) -> str:
    indent, text = found["indent"], found["text"].rstrip()
    code = textwrap.dedent(found["block"]).strip("\n")
    language = "python" if code.startswith(">>>") or _is_python(code) else "text"
    fence = textwrap.indent(f"```{language}\n{code}\n```", indent)
    before = f"{indent}{text}:\n\n" if text else ""
    return f"{before}{fence}\n\n"


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True
