"""Picture of docs/how/one_evaluation.md: steps by velocities and by mean velocities, exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from draw_distillation import DATA, STEP_SIZES, ways
from look import page_figure, save_picture
from matplotlib.axes import Axes
from mixture import exact_chain
from torch import Tensor

from lfm_policy.flow import FlowChain
from lfm_policy.pictures import Theme, drawing

STARTS = torch.tensor([[-1.6], [-0.7], [0.5], [1.5]])


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw it into a folder; ``quick``: as rough as it may be."""
    return [draw_steps(folder / "one_evaluation_steps.png", n_steps=4 if quick else 64)]


def draw_steps(path: Path, n_steps: int) -> Path:
    """Draw one step through each block of a global flow and of local blocks, both ways."""
    with drawing() as theme:
        picture = page_figure(4.6)
        panels: Any = picture.subplots(2, 1, sharey=True)
        for axes, sizes, title in (
            (panels[0], (), "One block, one step"),
            (panels[1], STEP_SIZES, "Three local blocks, a step of each"),
        ):
            _draw_chain(axes, exact_chain(DATA, sizes), n_steps, theme)
            axes.set_title(title)
        panels[1].legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=3, borderpad=0)
        return save_picture(picture, path)


def euler_ends(chain: FlowChain, start: Tensor) -> Tensor:
    """Return the states (N + 1, B) before and after one Euler step in each block."""
    return ways(chain, start, 1, chain.n_blocks, "euler")[1]


def _draw_chain(axes: Axes, chain: FlowChain, n_steps: int, theme: Theme) -> None:
    n_blocks = chain.n_blocks
    places, states = ways(chain, STARTS, n_steps, n_blocks)
    places = places - places[0]
    edges = np.arange(n_blocks + 1)
    missed, mean, flow = theme.warning, theme.policy_colour(2), theme.policy_colour(0)
    axes.plot(places, states, color=flow, linewidth=1.2)
    axes.plot([], [], color=flow, label="the flow")
    # Markers at the ends are drawn whole.
    axes.plot(edges, euler_ends(chain, STARTS), ":x", color=missed, linewidth=1.4, clip_on=False)
    axes.plot([], [], ":x", color=missed, label="velocity")
    axes.plot(
        edges, states[::n_steps], "--o", color=mean, linewidth=1.6, markersize=5, clip_on=False
    )
    axes.plot([], [], "--o", color=mean, label="mean velocity")
    for edge in edges[1:-1]:
        axes.axvline(edge, color=theme.ink, linewidth=0.8)
    axes.set_xticks([0, n_blocks], ["noise", "data"], color=theme.ink)
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.set(xlim=(0, n_blocks), ylim=(-1.9, 1.9), yticks=[])
    axes.grid(visible=False)
    axes.tick_params(length=0)
