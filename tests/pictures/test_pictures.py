"""The look of all figures: colours that can be told apart, figures that threads may draw."""

from __future__ import annotations

import threading
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from lfm_policy.pictures import (
    DARK,
    LIGHT,
    Theme,
    draw_interval,
    drawing,
    figure,
    legend_below,
    legend_right,
    log_axis,
    save,
)

# sRGB to XYZ, and how colour-blind people see linear RGB (Machado et al., 2009, severity 1).
XYZ = np.array(
    [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
)  # fmt: skip
EYES = {
    "all": np.eye(3),
    "deuteranopia": np.array(
        [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]
    ),
    "protanopia": np.array(
        [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0993], [-0.0039, -0.0481, 1.0520]]
    ),
}


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """Of the Web Content Accessibility Guidelines: 3 for graphics, 4.5 for text."""
    low, high = sorted(float((XYZ @ linear(colour))[1]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("family", ["policies", "blocks"])
def test_colours_are_told_apart_by_everybody_and_in_grey(theme: Theme, family: str) -> None:
    for one, other in combinations(getattr(theme, family), 2):
        a, b = linear(one), linear(other)
        assert abs(lab(a)[0] - lab(b)[0]) > 7, f"{one} and {other} in grey"
        for eye, matrix in EYES.items():
            assert np.linalg.norm(lab(matrix @ a) - lab(matrix @ b)) > 12, f"{one}, {other}: {eye}"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_from_what_is_behind_them(theme: Theme) -> None:
    for text in (theme.ink, theme.muted, theme.warning, *theme.policies):
        assert contrast(text, theme.surface) >= 4.5
    for line in theme.blocks:
        assert contrast(line, theme.surface) >= 3
    assert not {*theme.policies} & {*theme.blocks}  # a colour means one thing


def test_whose_colour_it_is() -> None:
    assert LIGHT.policy_colour() == LIGHT.policies[0]
    assert [LIGHT.policy_colour(n) for n in (1, 2, 3, 64)] == [
        *LIGHT.policies[1:3],
        *2 * [LIGHT.policies[3]],
    ]
    assert LIGHT.block_colour(1) == LIGHT.block_colour(5) == LIGHT.blocks[0]
    assert LIGHT.block_colour(4) == LIGHT.blocks[3]


def test_threads_draw_in_their_own_theme_and_leave_matplotlib_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)

    def draw(theme: Theme, path: Path) -> None:
        with drawing(theme) as used:
            picture = figure(2, 1, "title", "below", theme=used)
            picture.subplots()
            save(picture, path, dpi=30)

    paths = {tmp_path / f"{k}.png": theme for k, theme in enumerate([LIGHT, DARK] * 4)}
    threads = [threading.Thread(target=draw, args=(theme, path)) for path, theme in paths.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path, theme in paths.items():
        corner = np.asarray(Image.open(path))[-1, -1, :3]
        assert "#{:02x}{:02x}{:02x}".format(*corner) == theme.surface
    assert dict(matplotlib.rcParams) == before


def test_a_headline_stands_above_everything_and_the_rest_keeps_its_height() -> None:
    with drawing():
        picture = figure(6, 2, "title", "one\ntwo")
        axes = picture.subplots()
        axes.set_title("panel")
        picture.draw_without_rendering()
        boxes = [text.get_window_extent() for text in picture.texts]
        assert picture.get_size_inches()[1] > 2
        assert boxes[0].y0 >= boxes[1].y1 - 1
        assert boxes[1].y0 >= axes.title.get_window_extent().y1
        assert figure(6, 2).get_size_inches().tolist() == [6, 2]


def test_intervals_and_legends() -> None:
    with drawing():
        axes = figure(4, 3).subplots()
        legend_below(axes)
        assert axes.get_legend() is None
        draw_interval(axes, 0, 0.5, (0.4, 0.7), colour="#000000", text="50%")
        (interval,) = [line for line in axes.lines if line.get_gid() == "interval"]
        assert tuple(interval.get_xdata()) == (0.4, 0.7)
        assert [text.get_text() for text in axes.texts] == ["50%"]
        axes.plot([1, 10], [0.02, 4], label="a")
        log_axis(axes)
        for place in (legend_below, legend_right):
            place(axes)
            axes.figure.draw_without_rendering()
            inside, legend = axes.bbox, axes.get_legend().get_window_extent()
            assert legend.y1 <= inside.y0 or legend.x0 >= inside.x1
        assert "0.1" in [label.get_text() for label in axes.get_yticklabels()]
