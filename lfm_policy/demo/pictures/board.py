"""The PushT board and action chunks on it, drawn with matplotlib."""

from __future__ import annotations

import numpy as np
from lfm_envs.pusht import BOARD_SIZE
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, Polygon, Rectangle

from lfm_policy.demo.pictures.scene import AGENT_RADIUS, Scene
from lfm_policy.pictures import Theme

MARGIN = 32
"""Pixels that are shown beyond the walls: noise knows none."""

# What is drawn later hides what was drawn before.
_CHUNKS, _OUTLINES, _FOLLOWED = 2, 3, 4


def draw_board(axes: Axes, scene: Scene, theme: Theme) -> None:
    """Draw the board of a scene; the axes are expected to be square."""
    axes.set_xlim(-MARGIN, BOARD_SIZE + MARGIN)
    axes.set_ylim(BOARD_SIZE + MARGIN, -MARGIN)  # y points down
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.add_patch(
        Rectangle(
            (0, 0), BOARD_SIZE, BOARD_SIZE, facecolor=theme.board, edgecolor=theme.grid, linewidth=1
        )
    )
    axes.add_patch(Polygon(scene.goal, facecolor=theme.goal))
    axes.add_patch(Polygon(scene.block, facecolor=theme.block, alpha=0.85))
    axes.add_patch(Circle(tuple(scene.agent), AGENT_RADIUS, facecolor=theme.agent))
    # Once more above the chunks, which would hide where things are.
    for outline, colour in ((scene.goal, theme.goal_line), (scene.block, theme.muted)):
        axes.add_patch(
            Polygon(outline, facecolor="none", edgecolor=colour, linewidth=0.9, zorder=_OUTLINES)
        )


class ChunkLines:
    """Chunks on a board, each a line coloured from its first to its last action.

    The first of them is drawn stronger, so that it can be followed from picture to picture.
    """

    def __init__(self, axes: Axes, chunks: np.ndarray, theme: Theme) -> None:
        """Draw chunks (S, horizon, 2), in pixels of the board."""
        n_samples, horizon = chunks.shape[:2]
        colours = LinearSegmentedColormap.from_list("chunk", theme.chunk)(
            np.tile(np.linspace(0, 1, max(horizon - 1, 1)), n_samples)
        )
        self._lines = LineCollection(
            _segments(chunks),
            colors=list(colours),
            linewidths=0.8,
            alpha=0.55,
            capstyle="round",
            zorder=_CHUNKS,
        )
        axes.add_collection(self._lines)
        (self._followed,) = axes.plot(
            *chunks[0].T,
            marker="o",
            markevery=[horizon - 1],
            color=theme.follow,
            linewidth=1.8,
            markersize=3.6,
            zorder=_FOLLOWED,
        )

    def move_to(self, chunks: np.ndarray) -> None:
        """Draw other chunks of the same shape instead."""
        self._lines.set_segments(_segments(chunks))
        self._followed.set_data(*chunks[0].T)


def _segments(chunks: np.ndarray) -> list[np.ndarray]:
    return list(np.stack([chunks[:, :-1], chunks[:, 1:]], axis=2).reshape(-1, 2, 2))
