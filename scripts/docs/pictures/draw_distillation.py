"""Pictures of docs/how/distillation.md: steps beside the teacher's ways, and what inputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from look import page_figure, save_picture
from matplotlib.axes import Axes
from mixture import Mixture, exact_chain
from torch import Tensor

from lfm_policy.flow import FlowChain, SolverSpec
from lfm_policy.pictures import Theme, drawing

STEP_SIZES = (0.01, 0.1)
DATA = Mixture(torch.tensor([0.4, 0.6]), torch.tensor([[-0.9], [0.8]]), 0.12)
EDGE = 1
"""Where on the picture the first student block ends: the teacher's block 3 is over."""
ERROR = 0.3
"""By how much the student nearer the noise misses, where inputs are explained."""


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw them all into a folder; ``quick``: as rough as it may be."""
    n_steps = 4 if quick else 64
    return [
        draw_steps(folder / "distillation_steps.png", n_steps),
        draw_inputs(folder / "distillation_inputs.png", n_steps),
    ]


def ways(
    chain: FlowChain, start: Tensor, n_steps: int, last: int = 3, solver: str = "midpoint"
) -> tuple[Any, Tensor]:
    """Return places on the picture and states (places, B) from block ``last`` to the data."""
    path = chain.sample(start, solver=SolverSpec(solver, n_steps), last=last, return_path=True).path
    assert path is not None
    used = [states for states in path if len(states)][::-1]
    states = torch.cat([used[0][:1], *(part[1:] for part in used)])
    return np.linspace(3 - last, 3, len(states)), states[:, :, 0]


def draw_steps(path: Path, n_steps: int) -> Path:
    """Draw the teacher's ways through three blocks and the two steps of its student."""
    chain = exact_chain(DATA, STEP_SIZES)
    starts = torch.tensor([[-1.5], [-0.75], [0.1], [0.7], [1.6]])
    places, states = ways(chain, starts, n_steps)
    with drawing() as theme:
        picture = page_figure(2.9)
        axes: Any = picture.subplots()
        axes.plot(places, states, color=theme.policy_colour(0), linewidth=1.4)
        axes.plot([], [], color=theme.policy_colour(0), label="teacher, three blocks")
        stops = [0, n_steps, 3 * n_steps]
        axes.plot(
            [places[stop] for stop in stops],
            states[stops],
            *("--o",),
            color=theme.policy_colour(2),
            linewidth=1.6,
            markersize=5,
        )
        axes.plot([], [], "--o", color=theme.policy_colour(2), label="student, two steps")
        for k, group in ((0.5, "student block 2"), (2, "student block 1")):
            axes.text(k, 1.86, group, ha="center", color=theme.policy_colour(2), weight="bold")
        _blocks(axes, theme)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=2, borderpad=0)
        return save_picture(picture, path)


def _blocks(axes: Axes, theme: Theme) -> None:
    """Say where the teacher's blocks are."""
    axes.axvline(EDGE, color=theme.ink, linewidth=0.8)
    axes.axvline(2, color=theme.muted, linewidth=0.6, linestyle=":")
    names = ("noise", "block 3", "block 2", "block 1", "data")
    axes.set_xticks([0, 0.5, 1.5, 2.5, 3], names, color=theme.ink, fontsize=8.5)
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.set(xlim=(0, 3), ylim=(-1.8, 2.1), yticks=[])
    axes.grid(visible=False)
    axes.tick_params(length=0)


def draw_inputs(path: Path, n_steps: int) -> Path:
    """Draw from where and to where the last student learns to step, with each kind of inputs."""
    chain = exact_chain(DATA, STEP_SIZES)
    places, own = ways(chain, torch.tensor([[0.62]]), n_steps)
    met = own[n_steps]
    missed = met - ERROR
    later, from_missed = ways(chain, missed[:, None], n_steps, last=2)
    with drawing() as theme:
        picture = page_figure(2.5)
        panels: Any = picture.subplots(1, 3, sharey=True)
        for axes, name, start, end in (
            (panels[0], "teacher", met, own[-1]),
            (panels[1], "student", missed, from_missed[-1]),
            (panels[2], "corrected", missed, own[-1]),
        ):
            axes.plot(places, own, color=theme.policy_colour(0), linewidth=1.4)
            if name == "student":
                axes.plot(later, from_missed, ":", color=theme.policy_colour(0), linewidth=1.4)
            if name != "teacher":
                axes.plot([0, EDGE], [0.62, float(missed)], "--", color=theme.muted, linewidth=1.2)
            axes.annotate(
                "",
                (3, float(end)),
                (EDGE, float(start)),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": theme.policy_colour(2),
                    "linewidth": 1.8,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
            axes.plot([EDGE], start, "o", color=theme.policy_colour(2), markersize=6)
            axes.axvline(EDGE, color=theme.ink, linewidth=0.8)
            axes.set_xticks([0, EDGE, 3], ["noise", "$p_2$", "data"], color=theme.ink)
            axes.get_xticklabels()[0].set_horizontalalignment("left")
            axes.get_xticklabels()[-1].set_horizontalalignment("right")
            axes.set(title=name, xlim=(0, 3.05), ylim=(0.2, 1.05), yticks=[])
            axes.grid(visible=False)
            axes.tick_params(length=0)
        return save_picture(picture, path)
