"""Figures from their making to their file."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lfm_policy.pictures.theme import LIGHT, Theme
from lfm_runtime.disk.files import atomic_file

WIDTH = 10.0
"""Inches of a figure as wide as a page; with it, the size of its text is set."""
DPI = 120

_MARGIN, _TITLE, _SUBTITLE = 0.08, 0.3, 0.22
"""Inches: around a figure, of its title, of each line of its subtitle."""

# What matplotlib takes its defaults from is one for all threads.
_lock = threading.RLock()


@contextmanager
def drawing(theme: Theme = LIGHT) -> Iterator[Theme]:
    """Let matplotlib use the colours of a theme, in one thread at a time.

    Ticks are made as late as when a figure is saved, so that belongs inside, too.
    """
    with _lock, matplotlib.rc_context(theme.style()):
        yield theme


def figure(
    width: float, height: float, title: str = "", subtitle: str = "", *, theme: Theme = LIGHT
) -> Figure:
    """Return an empty figure whose parts find their places by themselves.

    Args:
        width: inches; text is made for about `WIDTH`.
        height: inches below the title, which comes on top of them.
        title: what it shows, in bold at the top left.
        subtitle: of what, below the title: n, seeds, settings; may have several lines.
        theme: of the subtitle.
    """
    lines = subtitle.count("\n") + 1 if subtitle else 0
    head = (_TITLE if title else 0) + _SUBTITLE * lines
    whole = height + head
    layout = ConstrainedLayoutEngine(
        rect=(0, 0, 1, height / whole), h_pad=_MARGIN, w_pad=_MARGIN, hspace=0.03, wspace=0.03
    )
    made = Figure(figsize=(width, whole), layout=layout)
    left, top = 0.1 / width, 1 - _MARGIN / whole
    if title:
        made.text(left, top, title, va="top", weight="bold", fontsize=12.5)
    if subtitle:
        below = top - (_TITLE if title else 0) / whole
        made.text(left, below, subtitle, va="top", fontsize=9, color=theme.muted, linespacing=1.3)
    return made


def save(
    picture: Figure, path: Path, *, dpi: int = DPI, facts: Mapping[str, str] | None = None
) -> None:
    """Write a figure as PNG, under a temporary name that is renamed at last.

    ``facts`` are kept in the file, as texts of its metadata.
    """
    with atomic_file(path) as temporary:
        picture.savefig(temporary, format="png", dpi=dpi, metadata=facts)
