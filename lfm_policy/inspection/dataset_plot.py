"""The picture of a dataset: lengths, distributions, actions and frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.inspection.cameras import CameraFacts
from lfm_policy.inspection.ranges import Ranges, flat
from lfm_policy.pictures import LIGHT

DIMENSIONS_DRAWN = 24
"""Distributions of no more dimensions than this are drawn, the action first."""

ACTIONS_DRAWN = 8
"""Action dimensions that are drawn over time."""

_COLUMNS = 8
_LENGTH_BINS = 30
_POINTS = 200_000
_WIDTH = 15.0
_EPISODES = LinearSegmentedColormap.from_list("episodes", LIGHT.chunk)


def dataset_figure(
    title: str,
    buffer: ReplayBuffer,
    ranges: Mapping[str, Ranges],
    cameras: Mapping[str, CameraFacts],
    episodes_drawn: Sequence[int],
) -> Figure:
    """Return a figure, from top to bottom:

    - a histogram of episode lengths; the actions of a few episodes, in the plane if there are two
      dimensions, else over time, one panel per dimension (at most `ACTIONS_DRAWN`);
    - the distribution of every dimension of actions and low-dimensional observations (at most
      `DIMENSIONS_DRAWN`);
    - for every camera a sheet of frames, one row per episode from its first to its last frame.

    Args:
        title: the headline, before the numbers of episodes and steps.
        buffer: low-dimensional arrays.
        ranges: their statistics by key.
        cameras: frames to show, by name of the camera.
        episodes_drawn: episodes whose actions are drawn.
    """
    # The action first, then keys with few dimensions.
    keys = sorted(ranges, key=lambda key: (key != ACTION_KEY, len(ranges[key].min)))
    names = [(key, d) for key in keys for d in range(len(ranges[key].min))]
    rows = -(-min(len(names), DIMENSIONS_DRAWN) // _COLUMNS)
    sheets = [(name, camera, _mosaic(camera)) for name, camera in cameras.items() if camera.shown]
    pairs = [sheets[i : i + 2] for i in range(0, len(sheets), 2)]
    heights = [4.6, 0.4 + 1.6 * rows]
    for pair in pairs:  # in inches; sheets are as wide as the figure allows
        ratio = max(mosaic.shape[0] / mosaic.shape[1] for *_, mosaic in pair)
        heights.append(0.6 + min(_WIDTH / len(pair), 11.0) * ratio)
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=(_WIDTH, 0.5 + sum(heights)), layout=layout)
    headline = f"{title}: {buffer.n_episodes:,} episodes, {buffer.n_steps:,} steps"
    figure.suptitle(headline, fontsize=14, fontweight="bold")
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_overview(parts[0], buffer, episodes_drawn)
    _draw_distributions(parts[1], buffer, ranges, names, rows)
    for part, pair in zip(parts[2:], pairs, strict=True):
        for axes, sheet in zip(part.subplots(1, len(pair), squeeze=False)[0], pair, strict=True):
            _draw_sheet(axes, *sheet)
    return figure


def _draw_overview(part: Any, buffer: ReplayBuffer, episodes: Sequence[int]) -> None:
    left, right = part.subfigures(1, 2, width_ratios=[1, 2])
    axes = left.subplots()
    lengths = buffer.episode_lengths
    # Bins hold whole numbers, all equally many, or the bars would differ by chance.
    step = -(-(int(np.ptp(lengths)) + 1) // _LENGTH_BINS)
    edges = np.arange(lengths.min() - 0.5, lengths.max() + step, step)
    axes.hist(lengths, bins=edges, color=LIGHT.muted)
    median = float(np.median(lengths))
    axes.axvline(
        median, color=LIGHT.warning, linewidth=1, linestyle="--", label=f"median {median:g}"
    )
    axes.legend(fontsize=8, frameon=False)
    axes.set_title("episode lengths", fontsize=10)
    axes.set_xlabel("steps")
    axes.set_ylabel("episodes")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    _plain(axes)
    if ACTION_KEY not in buffer.arrays:  # it has another name, or is too large to read
        axes = right.subplots()
        axes.set_axis_off()
        axes.set_title(f"no array '{ACTION_KEY}' to draw", fontsize=10)
        return
    action = flat(buffer.arrays[ACTION_KEY])
    spans = zip(buffer.episode_starts[episodes], buffer.episode_ends[episodes], strict=True)
    paths = {e: action[start:end] for e, (start, end) in zip(episodes, spans, strict=True)}
    if action.shape[1] == 2:
        _draw_plane(right, paths)
    else:
        _draw_over_time(right, paths, action.shape[1])


def _draw_plane(part: Any, paths: Mapping[int, np.ndarray]) -> None:
    mosaic = part.subplot_mosaic([["plane", "0"], ["plane", "1"]])
    plane = mosaic["plane"]
    colors = _EPISODES(np.linspace(0, 1, len(paths)))
    for color, (episode, values) in zip(colors, paths.items(), strict=True):
        plane.plot(*values.T, linewidth=1.1, color=color, label=f"episode {episode}")
        plane.plot(*values[:1].T, "o", markersize=5, color=color)
        plane.plot(*values[-1:].T, "x", markersize=7, color=color)
        for d in range(2):
            mosaic[str(d)].plot(values[:, d], linewidth=0.9, color=color)
    plane.set_title("actions in the plane (o start, x end)", fontsize=10)
    plane.set_xlabel("action[0]")
    plane.set_ylabel("action[1], downwards as in images")
    plane.set_aspect("equal", adjustable="datalim")
    plane.invert_yaxis()
    for d in range(2):
        mosaic[str(d)].set_title(f"action[{d}] over the steps", fontsize=10)
    for axes in mosaic.values():
        _plain(axes)
    _legend(part, plane)


def _draw_over_time(part: Any, paths: Mapping[int, np.ndarray], n_dims: int) -> None:
    count = min(n_dims, ACTIONS_DRAWN)
    columns = min(count, 4)
    grid = part.subplots(-(-count // columns), columns, squeeze=False, sharex=True)
    note = "" if count == n_dims else f", {count} of {n_dims} dimensions"
    part.suptitle(f"actions of {len(paths)} episodes over their steps{note}", fontsize=10)
    for d, axes in enumerate(grid.flat):
        if d >= count:
            axes.set_axis_off()
            continue
        colors = _EPISODES(np.linspace(0, 1, len(paths)))
        for color, (episode, values) in zip(colors, paths.items(), strict=True):
            axes.plot(values[:, d], linewidth=0.9, color=color, label=f"episode {episode}")
        axes.set_title(f"action[{d}]", fontsize=8)
        axes.tick_params(labelsize=7)
        _plain(axes)
    _legend(part, grid[0, 0])


def _draw_distributions(
    part: Any,
    buffer: ReplayBuffer,
    ranges: Mapping[str, Ranges],
    names: list[tuple[str, int]],
    rows: int,
) -> None:
    drawn = names[:DIMENSIONS_DRAWN]
    note = "" if len(drawn) == len(names) else f", {len(drawn)} of {len(names)} dimensions"
    part.suptitle(f"distributions{note} (dashed: 1% and 99% quantiles)", fontsize=10)
    grid = part.subplots(rows, _COLUMNS, squeeze=False)
    stride = max(1, buffer.n_steps // _POINTS)
    for number, axes in enumerate(grid.flat):
        axes.set_yticks([])
        if number >= len(drawn):
            axes.set_axis_off()
            continue
        key, d = drawn[number]
        color = LIGHT.ink if key == ACTION_KEY else LIGHT.muted
        values = flat(buffer.arrays[key])[::stride, d].astype(np.float64)
        axes.hist(values, bins=40, color=color)
        for quantile in (ranges[key].q01[d], ranges[key].q99[d]):
            axes.axvline(quantile, color=LIGHT.warning, linewidth=0.7, linestyle="--")
        axes.set_title(f"{key}[{d}]", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=4)
        _plain(axes)
        axes.spines["left"].set_visible(False)


def _draw_sheet(axes: Any, name: str, camera: CameraFacts, mosaic: np.ndarray) -> None:
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255)
    axes.grid(visible=False)
    axes.set_anchor("N")
    axes.set_title(f"{name}: from the first to the last frame of the episode", fontsize=10)
    height = mosaic.shape[0] / len(camera.shown)
    rows = (np.arange(len(camera.shown)) + 0.5) * height
    axes.set_yticks(rows, [f"episode {episode}" for episode in camera.shown], fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _mosaic(camera: CameraFacts) -> np.ndarray:
    """Return all frames to show in one image, (height, width[, 3]) uint8, grey between them."""
    rows = []
    for frames in camera.shown.values():
        gap = max(1, frames.shape[2] // 40)
        padded = np.pad(frames, ((0, 0), (gap, gap), (gap, gap), (0, 0)), constant_values=230)
        rows.append(np.concatenate(list(padded), axis=1))
    mosaic = np.concatenate(rows, axis=0)
    return mosaic[..., 0] if mosaic.shape[2] == 1 else mosaic


def _legend(part: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    part.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
