"""Pictures of the page, in the colours that the reader's browser asks for."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from lfm_policy.pictures import DARK, LIGHT, Theme, drawing

PNG_DPI = 200
"""Nearly twice the pixels of the page: sharp on fine screens."""


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
        draw: returns the figure; called once for each theme, inside `lfm_policy.pictures.drawing`.
        raster: PNG instead of SVG, for figures of thousands of lines.
    """
    addresses = []
    for theme in (LIGHT, DARK):
        buffer = io.BytesIO()
        with drawing(theme):
            figure = draw(theme)
            if raster:
                figure.savefig(buffer, format="png", dpi=PNG_DPI)
            else:  # without the date: the same input gives the same bytes
                figure.savefig(buffer, format="svg", metadata={"Date": None})
        kind = "image/png" if raster else "image/svg+xml"
        addresses.append(data_address(kind, buffer.getvalue()))
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    light, dark = addresses
    return ThemedPicture(light, dark, width, height)


def data_address(kind: str, content: bytes) -> str:
    """Return a ``data:`` address of some content; ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
