"""Figures of results: what is drawn is one thing, how it is drawn another.

A figure is compared by what is drawn, which its file says in its metadata: versions of matplotlib
differ in bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from lfm_policy.pictures import LIGHT, drawing, figure, save

MOST_SERIES = 5
WIDTH, PANEL_HEIGHT, ROW_HEIGHT = 7.2, 2.9, 0.27
"""Inches: as wide as the text of a page; of a panel of curves, and of one row of another."""
DATA_KEY = "lfm-policy:drawn"
DRAWING = 2
"""Increased when `draw` changes what it makes of the same data."""

STYLES: tuple[dict[str, Any], ...] = (
    {"color": LIGHT.policies[0], "marker": "o", "linestyle": "-"},
    {"color": LIGHT.policies[2], "marker": "s", "linestyle": "--"},
    {"color": LIGHT.policies[1], "marker": "^", "linestyle": "-.", "markerfacecolor": "white"},
    {"color": LIGHT.blocks[1], "marker": "D", "linestyle": ":"},
    {"color": LIGHT.blocks[3], "marker": "v", "linestyle": "-", "markerfacecolor": "white"},
)
"""Colours, markers and lines that are told apart in grey, too."""
HATCHES = ("", "///", "...", "xx", "")


@dataclass(frozen=True)
class Series:
    """Points of one colour, in one panel.

    Attributes:
        label: in the legend.
        x: where; in panels of rows the number of the row, the first one at the top is 0.
        y: what was measured; empty where a row has none.
        low: ends of intervals, when there are some.
        high: as ``low``.
        style: number of a style; None: that of its place.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    style: int | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        series: at most five.
        value: what was measured; label of its axis.
        x: label of the other axis.
        title: above.
        ticks: of a logarithmic x axis; empty: it is linear.
        rows: names of rows below each other, for panels of rows; empty: curves.
        bars: rows as bars, one series after the other, instead of points.
        from_zero: the axis of what was measured begins at 0.
        log_value: that axis is logarithmic.
    """

    series: tuple[Series, ...]
    value: str
    x: str = ""
    title: str = ""
    ticks: tuple[float, ...] = ()
    rows: tuple[str, ...] = ()
    bars: bool = False
    from_zero: bool = False
    log_value: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its file, without ``.png``.
        alt: what it shows, for those who do not see it.
        panels: row by row.
        title: above all.
        subtitle: n, seeds, settings.
        columns: of panels.
    """

    name: str
    alt: str
    panels: tuple[Panel, ...]
    title: str = ""
    subtitle: str = ""
    columns: int = 2

    def digest(self) -> str:
        """Return a hash of what is drawn."""
        drawn = json.dumps([DRAWING, _rounded(asdict(self))], sort_keys=True)
        return hashlib.sha256(drawn.encode()).hexdigest()[:16]


def drawn_digest(path: Path) -> str | None:
    """Return the hash that a file of a figure carries; None when there is no such file."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return str(image.info.get(DATA_KEY, "nothing"))


def draw(picture: Picture, path: Path) -> None:
    """Write a figure.

    Raises:
        ValueError: more series than can be told apart.
    """
    columns = min(picture.columns, len(picture.panels))
    lines = [picture.panels[i : i + columns] for i in range(0, len(picture.panels), columns)]
    heights = [max(_height(panel) for panel in line) for line in lines]
    labels = list(dict.fromkeys(s.label for p in picture.panels for s in p.series))
    legend = 0.25 * -(-len(labels) // 2) if len(labels) > 1 else 0
    with drawing():
        made = figure(WIDTH, sum(heights) + legend, picture.title, picture.subtitle)
        axes = made.subplots(
            len(lines), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        handles: dict[str, Any] = {}
        for place, ax in enumerate(axes.flat):
            if place < len(picture.panels):
                first = place % columns == 0
                handles |= _draw_panel(ax, picture.panels[place], named=first)
            else:
                ax.set_axis_off()
        _legend(made, handles)
        save(made, path, facts={DATA_KEY: picture.digest()})


def _legend(made: Figure, handles: dict[str, Any]) -> None:
    if len(handles) > 1:
        made.legend(
            list(handles.values()), list(handles), loc="outside lower left", ncols=2, handlelength=3
        )


def _height(panel: Panel) -> float:
    if not panel.rows:
        return PANEL_HEIGHT
    row = ROW_HEIGHT if panel.bars else max(ROW_HEIGHT, 0.12 * len(panel.series))
    return row * len(panel.rows) + 0.7


def _draw_panel(ax: Axes, panel: Panel, *, named: bool) -> dict[str, Any]:
    """Draw a panel; returns what stands for each label in the legend."""
    if len(panel.series) > MOST_SERIES:
        raise ValueError(f"{len(panel.series)} series in one panel, at most {MOST_SERIES}")
    ax.set_title(panel.title)
    handles: dict[str, Any] = {}
    left = [0.0] * len(panel.rows)
    for place, series in enumerate(panel.series):
        number = place if series.style is None else series.style
        style = {**STYLES[number], "markersize": 5.5, "linewidth": 1.4}
        if panel.bars:
            at = [left[int(row)] for row in series.x]
            handles[series.label] = ax.barh(
                series.x, series.y, left=at, color=style["color"], hatch=HATCHES[number],
                edgecolor="white", height=0.7, label=series.label,
            )  # fmt: skip
            for row, value in zip(series.x, series.y, strict=True):
                left[int(row)] += value
        elif panel.rows:
            style["linestyle"] = "none"
            # Series of one row stand below each other.
            shift = min(0.3, 0.8 / len(panel.series)) * (place - (len(panel.series) - 1) / 2)
            rows = [row + shift for row in series.x]
            handles[series.label] = ax.errorbar(
                series.y, rows, xerr=_reach(series), capsize=2, **style
            )
        else:
            handles[series.label] = ax.errorbar(
                series.x, series.y, yerr=_reach(series), capsize=2, elinewidth=1, **style
            )
    if panel.rows:
        ax.set_yticks(range(len(panel.rows)), panel.rows if named else [""] * len(panel.rows))
        ax.set_ylim(len(panel.rows) - 0.5, -0.5)
        ax.set_xlabel(panel.value)
    else:
        ax.set(xlabel=panel.x, ylabel=panel.value)
    if panel.ticks:
        ax.set_xscale("log")
        ax.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
        ax.minorticks_off()
    if panel.log_value:
        (ax.set_xscale if panel.rows else ax.set_yscale)("log")
    if panel.from_zero:
        (ax.set_xlim if panel.rows else ax.set_ylim)(0)
    return handles


def _reach(series: Series) -> list[list[float]] | None:
    """Return how far intervals reach below and above their values."""
    if not series.low:
        return None
    return [
        [y - low for y, low in zip(series.y, series.low, strict=True)],
        [high - y for y, high in zip(series.y, series.high, strict=True)],
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(one) for one in value]
    return value
