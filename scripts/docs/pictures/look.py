"""Size and saving of the pictures of the site: read on a phone, and printed in grey."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from lfm_policy.pictures import figure
from lfm_runtime.disk.files import atomic_file

WIDTH = 4.8
"""Inches: at this width text has 9 pixels on a phone that is 390 wide."""
DPI = 160
COLOURS = 128
"""Of a file: enough for lines with smooth edges, at a third of the bytes."""
LARGEST = 150_000
"""Bytes of a file."""


def page_figure(height: float) -> Figure:
    """Return an empty figure as wide as a page; what it shows, the page says below it."""
    return figure(WIDTH, height)


def plain(axes: Any) -> None:
    """Take everything off axes that is not drawn into them."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(visible=False)


def save_picture(picture: Figure, path: Path) -> Path:
    """Write a figure and return its path.

    Raises:
        ValueError: the file is larger than a page should have to load.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    picture.savefig(drawn, format="png", dpi=DPI)
    few = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    with atomic_file(path) as temporary:
        few.save(temporary, format="PNG", optimize=True)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: {path.stat().st_size:,} bytes, expected at most {LARGEST:,}")
    return path
