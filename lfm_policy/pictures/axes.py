"""Parts that many figures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator


def draw_interval(
    axes: Axes,
    row: float,
    value: float,
    interval: Sequence[float],
    *,
    colour: str,
    text: str,
    marker: str = "o",
) -> None:
    """Draw a value as a point on its interval, (low, high), in a horizontal row, with its number.

    The number stands above: beside, it would hide what is near.
    """
    axes.plot(
        interval,
        [row, row],
        color=colour,
        linewidth=5,
        alpha=0.3,
        solid_capstyle="butt",
        gid="interval",
    )
    axes.plot([value], [row], marker, color=colour, markersize=7)
    axes.annotate(text, (value, row), (0, 7), textcoords="offset points", ha="center")


def log_axis(axes: Axes) -> None:
    """Make y logarithmic, with ticks at plain numbers, a few also where a decade is not left."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("e-0", "e-"))
    axes.yaxis.set_minor_locator(NullLocator())


def legend_below(axes: Axes, *, columns: int = 3, drop: float = 0.2, **options: Any) -> None:
    """Put the legend below the axes and their label: inside, a curve may be anywhere.

    Args:
        axes: with something that has a label; without, nothing happens.
        columns: of the legend.
        drop: how far below, as a share of the height of the axes.
        options: of ``axes.legend``.
    """
    _legend(axes, "upper left", (-0.02, -drop), ncols=columns, **options)


def legend_right(axes: Axes, **options: Any) -> None:
    """Put the legend to the right of the axes; see `legend_below`."""
    _legend(axes, "upper left", (1.01, 1.0), **options)


def _legend(axes: Axes, place: str, anchor: tuple[float, float], **options: Any) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(
            loc=place,
            bbox_to_anchor=anchor,
            borderpad=0,
            **{"handlelength": 1.4, "columnspacing": 1.2, **options},
        )
