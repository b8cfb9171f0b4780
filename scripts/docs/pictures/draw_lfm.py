"""Pictures of docs/how/lfm.md: ways of single points, marginals of blocks, chunks on the board."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from look import page_figure, save_picture
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from mixture import Mixture, exact_chain
from torch import Tensor, nn

from lfm_policy import load_policy
from lfm_policy.demo.flow_states import FlowState, flow_states
from lfm_policy.demo.pictures.board import ChunkLines, draw_board
from lfm_policy.demo.pictures.scene import Scene, most_open_scene, start_scenes
from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    OUSchedule,
    OUStep,
    SolverSpec,
    fit,
)
from lfm_policy.pictures import Theme, drawing
from lfm_policy.policy import Policy

STEP_SIZES = (0.01, 0.1)
"""OU times of the blocks of the package's default, and of its PushT policy."""
DATA = Mixture(torch.tensor([0.35, 0.65]), torch.tensor([[-1.0], [0.8]]), 0.12)
REACH = 2.6
"""What is drawn of a line of numbers, to both sides of 0."""
TEACHER = "pusht-state-teacher"
SCENE_SEEDS = range(400_000, 400_012)


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw them all into a folder; ``quick``: as rough as it may be."""
    return [
        draw_ways(folder / "lfm_ways.png", n_steps=8 if quick else 64),
        draw_marginals(folder / "lfm_marginals.png", quick=quick),
        draw_chunks(folder / "lfm_chunks.png", n_chunks=4 if quick else 40),
    ]


# -- ways ---------------------------------------------------------------------------------------


def draw_ways(path: Path, *, n_steps: int) -> Path:
    """Draw points on their way from noise to data, through one global flow and through three."""
    with drawing() as theme:
        picture = page_figure(4.6)
        panels: Any = picture.subplots(2, 1, sharey=True)
        for axes, sizes, title in (
            (panels[0], (), "One global flow (N = 1)"),
            (panels[1], STEP_SIZES, "Three local blocks (N = 3)"),
        ):
            _draw_chain(axes, OUSchedule(sizes), n_steps, theme)
            axes.set_title(title)
        return save_picture(picture, path)


def _draw_chain(axes: Axes, schedule: OUSchedule, n_steps: int, theme: Theme) -> None:
    chain, n_blocks = exact_chain(DATA, schedule.step_sizes), schedule.n_blocks
    # Evenly likely starts: what is dense in the picture is dense in the distribution.
    shares = (torch.arange(29) + 0.5) / 29
    noise = torch.distributions.Normal(0.0, 1.0).icdf(shares)[:, None]
    ways = chain.sample(noise, solver=SolverSpec("midpoint", n_steps), return_path=True).path
    assert ways is not None
    grey = LinearSegmentedColormap.from_list("grey", [theme.surface, theme.block])
    for n in range(n_blocks, 0, -1):
        left = n_blocks - n  # the noise is on the left
        places = left + np.linspace(0, 1, n_steps + 1)
        axes.imshow(
            _densities(schedule, n),
            extent=(left, left + 1, -REACH, REACH),
            origin="lower",
            aspect="auto",
            cmap=grey,
            vmin=0,
            vmax=1.1,
        )
        colour = theme.block_colour(n)
        axes.plot(places, ways[n - 1][:, :, 0], color=colour, linewidth=0.8)
        axes.text(
            left + 0.5,
            REACH - 0.15,
            f"block {n}" if n_blocks > 1 else "the only block",
            color=colour,
            weight="bold",
            ha="center",
            va="top",
        )
        if left:
            axes.axvline(left, color=theme.ink, linewidth=0.8)
    names = [f"$p_{k}$" for k in range(n_blocks, -1, -1)]
    names[0], names[-1] = f"noise, {names[0]}", f"{names[-1]}, data"
    axes.set_xticks(range(n_blocks + 1), names, color=theme.ink)
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")
    axes.set(ylim=(-REACH, REACH), xlim=(0, n_blocks), ylabel="a number of a chunk")
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _densities(schedule: OUSchedule, n: int) -> np.ndarray:
    """Return the densities inside block n from t = 1 to 0, (values, times), square roots."""
    data = DATA.after(schedule.marginal(n - 1))
    values = torch.linspace(-REACH, REACH, 200)[:, None]
    columns = [
        data.between(schedule.step(n), float(t)).log_prob(values).exp()
        for t in torch.linspace(1, 0, 60)
    ]
    return torch.stack(columns, dim=1).sqrt().numpy()


# -- marginals ----------------------------------------------------------------------------------


class Net(nn.Module):
    """A small network of one number."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()),
            nn.Linear(width, 1),
        )

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        out: Tensor = self.net(torch.cat([x, t[:, None]], 1))
        return out


def draw_marginals(path: Path, *, quick: bool) -> Path:
    """Draw what trained blocks push forward and sample, beside the closed form."""
    torch.manual_seed(0)
    schedule, n_rows = OUSchedule(STEP_SIZES), 2_000 if quick else 40_000
    chain = FlowChain([FlowBlock(Net(), schedule.step(n)) for n in (1, 2, 3)])
    x = DATA.sample(n_rows)
    fit(chain, x, steps=10 if quick else 2000, batch_size=512, learning_rate=3e-3)
    solver = SolverSpec("midpoint", 16)
    with torch.no_grad():
        pushed = [chain.push_forward(x, solver=solver, last=n).x for n in (1, 2, 3)]
        sampled = chain.sample(torch.randn(n_rows, 1), solver=solver).x
    values = torch.linspace(-REACH, REACH, 400)[:, None]
    with drawing() as theme:
        picture = page_figure(4.4)
        panels: Any = picture.subplots(2, 2, sharex=True, sharey=True)
        # From data to noise as the push-forward goes, and from the noise back to the data.
        for axes, n, rows, title in (
            (panels[0, 0], 1, pushed[0], "$p_1$: pushed through block 1"),
            (panels[0, 1], 2, pushed[1], "$p_2$: … and block 2"),
            (panels[1, 1], 3, pushed[2], "$p_3$: … and block 3"),
            (panels[1, 0], 0, sampled, "$p_0$: sampled, blocks 3 to 1"),
        ):
            exact = _marginal(schedule.marginal(n))
            axes.hist(
                rows[:, 0].numpy(),
                bins=np.linspace(-REACH, REACH, 80).tolist(),
                density=True,
                color=theme.block if n == 0 else theme.block_colour(n),
                alpha=1 if n == 0 else 0.55,
                label="by the networks",
            )
            axes.plot(values, exact.log_prob(values).exp(), color=theme.ink, label="closed form")
            axes.set_title(title, fontsize=9.5)
            axes.tick_params(length=0)
        panels[1, 0].legend(loc="upper left", handlelength=1.2, borderpad=0)
        return save_picture(picture, path)


def _marginal(step: OUStep) -> Mixture:
    return DATA.after(step)


# -- chunks -------------------------------------------------------------------------------------


def teacher_on_the_board(n_chunks: int) -> tuple[Policy, Scene, Tensor]:
    """Return the package's teacher, an open start of an episode, and noise for chunks."""
    policy = load_policy(TEACHER, device="cpu")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n_chunks, *policy.model.chunk_shape, generator=generator)
    scenes = start_scenes(policy, policy.config.env.id, SCENE_SEEDS)
    return policy, most_open_scene(policy, scenes, noise), noise


def draw_chunks(path: Path, *, n_chunks: int) -> Path:
    """Draw chunks of actions on the board of PushT, at the noise and after every block."""
    policy, scene, noise = teacher_on_the_board(n_chunks)
    states = flow_states(policy, scene.obs, noise)
    ends = [state for state in states if state.block is None or state.time == 0]
    with drawing() as theme:
        picture = page_figure(5.2)
        panels: Any = picture.subplots(2, 2)
        for axes, state in zip(panels.flat, ends, strict=True):
            draw_board(axes, scene, theme)
            ChunkLines(axes, state.chunks, theme)
            axes.set_aspect("equal")
            axes.set_title(_title(state), loc="center")
        return save_picture(picture, path)


def _title(state: FlowState) -> str:
    if state.block is None:
        return "noise"
    name = f"after block {state.block}"
    return f"{name}: actions" if math.isclose(float(state.left), 0) else name
