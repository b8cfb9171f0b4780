"""Equations of pages, ``$..$`` and ``$$..$$``, as MathML: browsers draw it without any script."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

# What pymdownx.arithmatex makes of equations; it leaves dollars in code alone.
FOUND = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[\[(](?P<tex>.*?)\\[\])]</(?P=tag)>', re.DOTALL
)
# latex2mathml knows these under another name, or not as TeX means them.
OTHER_NAMES = {
    r"\begin{aligned}": r"\begin{split}",
    r"\end{aligned}": r"\end{split}",
    r"\arg\min": r"\argmin",
    r"\arg\max": r"\argmax",
}
# What it does not know it passes on as an identifier; what it cannot give a browser leaves a trace.
UNKNOWN = re.compile(r"<m[io]>(\\\w*|&|[{}])</m[io]>|<mfrac><mrow>(?:(?!<mrow>).)*</mrow></mfrac>")
UNDRAWN = re.compile(r'mathvariant="(?!normal)([\w-]+)"')
# \mathrm of one letter: as an identifier of one letter it would be drawn in italics.
UPRIGHT = re.compile(r"<mi>&#x000((?:4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A]));</mi>")
TILDE = "&#x0007E;"  # of the keyboard; \sim is the operator
SIM = "&#x0223C;"


def mathml(tex: str, display: str) -> str:
    """Return an equation as MathML; raises ValueError with what is wrong with it."""
    known = tex
    for name, other in OTHER_NAMES.items():
        known = known.replace(name, other)
    try:
        made = convert(known, display=display)
    except Exception as error:  # one of a dozen classes without a common base, mostly without text
        name = type(error).__name__.removesuffix("Error")
        raise ValueError(f"{name}: {error}" if str(error) else name) from error
    if unknown := UNKNOWN.search(made):
        raise ValueError(f"{unknown[1] or 'a fraction without denominator'} is not understood")
    if undrawn := UNDRAWN.search(made):
        raise ValueError(f"no browser draws {undrawn[1]} letters: use \\mathbf or \\mathrm")
    made = UPRIGHT.sub(r'<mi mathvariant="normal">&#x000\1;</mi>', made)
    made = made.replace(f"<mi>{TILDE}</mi>", f"<mo>{SIM}</mo>")
    # A reader's program reads the TeX out, and it can be copied.
    return made.replace("<math ", f'<math alttext="{html.escape(tex.strip())}" ', 1)


def line_of(tex: str, source: Path) -> str:
    """Return ``:LINE`` of an equation in its page, or nothing when it is not found there."""
    first = tex.strip().split("\n", 1)[0]
    text = source.read_text(encoding="utf-8") if source.is_file() else ""
    lines = [number for number, line in enumerate(text.split("\n"), 1) if first in line]
    return f":{lines[0]}" if lines else ""


def on_page_content(content: str, *, page: Page, **_: Any) -> str:
    """Replace the equations of a page."""

    def replace(found: re.Match[str]) -> str:
        tex = html.unescape(found["tex"])
        block = found["tag"] == "div"
        try:
            made = mathml(tex, "block" if block else "inline")
        except ValueError as error:
            where = page.file.src_uri + line_of(tex, Path(page.file.abs_src_path or ""))
            raise PluginError(f"{where}: the equation {tex.strip()!r}: {error}") from error
        return f'<div class="equation">{made}</div>' if block else made

    return FOUND.sub(replace, content)
