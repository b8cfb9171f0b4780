"""Picture of docs/how/encoders_and_blocks.md: what a block sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from look import page_figure, plain, save_picture
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from lfm_policy.pictures import Theme, drawing

N_BLOCKS = 3


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw it into a folder; there is no rougher way."""
    return [draw_seen(folder / "blocks_seen.png")]


def draw_seen(path: Path) -> Path:
    """Draw the way from frames and noise to actions."""
    with drawing() as theme:
        picture = page_figure(3.6)
        axes: Any = picture.subplots()
        plain(axes)
        axes.set(xlim=(0, 12), ylim=(0, 9))
        inputs = (
            ("camera frames", "image encoder", theme.muted),
            ("numbers", "normaliser", theme.muted),
            ("prefix (if any)", "normaliser", theme.muted),
        )
        for row, (name, by, colour) in enumerate(inputs):
            y = 8.1 - 1.35 * row
            _box(axes, 1.7, y, 3.2, name, theme, edge=colour)
            _box(axes, 5.8, y, 3.0, by, theme, edge=colour)
            _arrow(axes, (3.3, y), (4.3, y), theme)
            _arrow(axes, (7.3, y), (8.6, 7.05 - 0.3 * row), theme)
        _box(axes, 10.2, 6.75, 3.2, "condition", theme, edge=theme.ink, bold=True, height=1.1)
        axes.text(10.2, 7.7, "once per chunk", ha="center", fontsize=8.5, color=theme.muted)
        y = 2.3
        _box(axes, 0.95, y, 1.7, "noise", theme, edge=theme.muted)
        _box(axes, 11.05, y, 1.8, "actions", theme, edge=theme.muted)
        for k in range(N_BLOCKS):
            n = N_BLOCKS - k
            x = 3.2 + 2.7 * k
            colour = theme.block_colour(n)
            _box(axes, x, y, 2.1, f"block {n}", theme, edge=colour, text=colour, bold=True)
            _arrow(axes, (x - 1.4 if k == 0 else x - 1.65, y), (x - 1.05, y), theme)
            axes.plot([x, x], [4.0, 4.0], color=theme.ink)
            _arrow(axes, (x, 4.0), (x, y + 0.5), theme)
        _arrow(axes, (9.65, y), (10.15, y), theme)
        axes.plot([10.2, 10.2, 3.2], [6.2, 4.0, 4.0], color=theme.ink, linewidth=1)
        words = "one or more evaluations each"
        axes.text(5.9, y - 1.05, words, ha="center", fontsize=8.5, color=theme.muted)
        return save_picture(picture, path)


def _box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    words: str,
    theme: Theme,
    *,
    edge: str,
    text: str = "",
    bold: bool = False,
    height: float = 0.9,
) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.15",
            facecolor=theme.board,
            edgecolor=edge,
            linewidth=1.3,
        )
    )
    weight = "bold" if bold else "normal"
    axes.text(
        x, y, words, ha="center", va="center", color=text or theme.ink, weight=weight, fontsize=9
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], theme: Theme) -> None:
    axes.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": theme.ink,
            "linewidth": 1,
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )
