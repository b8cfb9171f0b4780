"""Colours of the page, light and dark, and figures as pictures that follow them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg", force=False)

WIDTH = 10.0
"""Inches of a figure as wide as the page; with it, the size of its text is set."""
PNG_DPI = 200
"""Nearly twice the pixels of the page: sharp on fine screens."""


@dataclass(frozen=True)
class Theme:
    """Colours of one colour scheme; those of the page itself stand in ``page.css``.

    Attributes:
        surface: behind a figure.
        ink: text and axes.
        muted: what is less important.
        grid: lines that are hardly there.
        policies: teacher, student of two blocks, student of one; told apart by colour-blind
            people, too.
        blocks: curves of blocks 1, 2, ...; further ones begin anew.
        board: floor of the PushT board.
        goal: its goal zone.
        goal_line: outline of the goal zone.
        block: the T.
        agent: the agent.
        chunk: colour map from the first action of a chunk to the last one.
        follow: the chunk that is followed through all pictures.
    """

    surface: str
    ink: str
    muted: str
    grid: str
    policies: tuple[str, ...]
    blocks: tuple[str, ...]
    board: str
    goal: str
    goal_line: str
    block: str
    agent: str
    chunk: tuple[str, ...]
    follow: str

    def context(self) -> AbstractContextManager[None]:
        """Return a context in which matplotlib uses these colours."""
        style: dict[str, Any] = {
            "font.size": 9.5,
            "figure.facecolor": self.surface,
            "axes.facecolor": self.surface,
            "savefig.facecolor": self.surface,
            "text.color": self.ink,
            "axes.labelcolor": self.muted,
            "axes.edgecolor": self.grid,
            "axes.titlecolor": self.ink,
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": self.grid,
            "grid.linewidth": 0.7,
            "xtick.color": self.grid,
            "ytick.color": self.grid,
            "xtick.labelcolor": self.muted,
            "ytick.labelcolor": self.muted,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            # The same input gives the same bytes.
            "svg.hashsalt": "lfm-policy",
        }
        context: AbstractContextManager[None] = matplotlib.rc_context(style)
        return context


LIGHT = Theme(
    surface="#ffffff",
    ink="#1b2430",
    muted="#556070",
    grid="#dfe4ea",
    policies=("#0072b2", "#c9600a", "#00875f"),
    blocks=("#0072b2", "#b8448f", "#8a6d00", "#5b6b7c"),
    board="#f5f7f9",
    goal="#c4e8cf",
    goal_line="#2e9e5b",
    block="#aab4c0",
    agent="#3f6fd8",
    chunk=("#f2b134", "#e5586b", "#6a2c9b"),
    follow="#0d1117",
)

DARK = Theme(
    surface="#161b22",
    ink="#e6edf3",
    muted="#9aa6b4",
    grid="#2d3540",
    policies=("#58b4f0", "#f0a35e", "#3ccf9f"),
    blocks=("#58b4f0", "#e58bc4", "#d8bb4a", "#94a3b5"),
    board="#1d242d",
    goal="#20503a",
    goal_line="#4cc38a",
    block="#66727f",
    agent="#7aa2ff",
    chunk=("#ffd166", "#ff7a8a", "#c193ff"),
    follow="#ffffff",
)


@dataclass(frozen=True)
class ThemedPicture:
    """A figure in both colour schemes as ``data:`` addresses, and its size in pixels of CSS."""

    light: str
    dark: str
    width: int
    height: int


def themed_picture(draw: Callable[[Theme], Figure], *, raster: bool = False) -> ThemedPicture:
    """Return a figure in both colour schemes, which the browser chooses between.

    Args:
        draw: returns the figure; called once for each theme, inside `Theme.context`.
        raster: PNG instead of SVG, for figures of thousands of lines.
    """
    addresses = []
    for theme in (LIGHT, DARK):
        buffer = io.BytesIO()
        with theme.context():
            figure = draw(theme)
            if raster:
                figure.savefig(buffer, format="png", dpi=PNG_DPI)
            else:  # without the date, for the same reason as the salt
                figure.savefig(buffer, format="svg", metadata={"Date": None})
        kind = "image/png" if raster else "image/svg+xml"
        addresses.append(data_address(kind, buffer.getvalue()))
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    light, dark = addresses
    return ThemedPicture(light, dark, width, height)


def data_address(kind: str, content: bytes) -> str:
    """Return a ``data:`` address of some content; ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
