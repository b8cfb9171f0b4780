"""Pictures of docs/how/noise_scale.md: two ways round an obstacle, and chunks on the board."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from draw_lfm import teacher_on_the_board
from look import page_figure, plain, save_picture
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from mixture import Mixture, exact_chain
from torch import Tensor

from lfm_policy.demo.flow_states import flow_states
from lfm_policy.demo.pictures.board import ChunkLines, draw_board
from lfm_policy.flow import SolverSpec
from lfm_policy.pictures import Theme, drawing

SCALES = (1.0, 0.6, 0.0)
HORIZON = 16
OBSTACLE, RADIUS = (0.0, 0.0), 0.32
STEP_SIZES = (0.01, 0.1)


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw them all into a folder; ``quick``: as rough as it may be."""
    return [
        draw_obstacle(folder / "noise_obstacle.png", n_steps=2 if quick else 64),
        draw_board_scales(folder / "noise_board.png", n_chunks=4 if quick else 40),
    ]


def two_ways(above_share: float = 0.7) -> Mixture:
    """Return chunks (16, 2) that lead past the obstacle: a share above it, the others below."""
    x = torch.linspace(-1.0, 1.0, HORIZON)
    bend = 0.62 * torch.cos(x * torch.pi / 2)
    above, below = torch.stack([x, bend], dim=1), torch.stack([x, -0.85 * bend], dim=1)
    return Mixture(torch.tensor([above_share, 1 - above_share]), torch.stack([above, below]), 0.05)


def sampled(ways: Mixture, scale: float, n: int, n_steps: int) -> Tensor:
    """Return n chunks from noise of this standard deviation, (n, 16, 2)."""
    chain = exact_chain(ways, STEP_SIZES)
    noise = scale * torch.randn(n, *ways.means.shape[1:])
    return chain.sample(noise, solver=SolverSpec("midpoint", n_steps)).x


def draw_obstacle(path: Path, *, n_steps: int) -> Path:
    """Draw what is sampled of two demonstrated ways from more and from less noise."""
    ways, n = two_ways(), 400
    with drawing() as theme:
        picture = page_figure(3.9)
        panels: Any = picture.subplots(2, 2)
        for axes, scale in zip(panels.flat, SCALES, strict=False):
            torch.manual_seed(0)
            chunks = sampled(ways, scale, n, n_steps)
            share = float((chunks[:, HORIZON // 2, 1] > 0).float().mean())
            draw_ways(axes, chunks[:60], theme)
            axes.set_title(f"noise scale {scale:g}: {share:.0%} above", fontsize=9.5)
        mean = (ways.weights[:, None, None] * ways.means).sum(0)
        draw_ways(panels[1, 1], mean[None], theme)
        panels[1, 1].set_title("regression: the mean", fontsize=9.5)
        return save_picture(picture, path)


def draw_ways(axes: Axes, chunks: Tensor, theme: Theme) -> None:
    """Draw chunks (B, 16, 2) past the obstacle."""
    plain(axes)
    axes.add_patch(Circle(OBSTACLE, RADIUS, facecolor=theme.block, edgecolor=theme.muted))
    alone = len(chunks) == 1 or bool(torch.allclose(chunks, chunks[:1]))
    axes.plot(
        chunks[..., 0].T,
        chunks[..., 1].T,
        color=theme.policy_colour(),
        linewidth=2 if alone else 0.7,
        alpha=1 if alone else 0.7,
    )
    axes.plot([-1], [0], "o", color=theme.agent, markersize=7)
    axes.plot([1], [0], "s", color=theme.goal_line, markersize=7)
    axes.set(xlim=(-1.15, 1.15), ylim=(-0.75, 0.85), aspect="equal")


def draw_board_scales(path: Path, *, n_chunks: int) -> Path:
    """Draw chunks of the package's teacher for one observation, from more and from less noise."""
    policy, scene, noise = teacher_on_the_board(n_chunks)
    with drawing() as theme:
        picture = page_figure(1.8)
        panels: Any = picture.subplots(1, 3)
        for axes, scale in zip(panels, SCALES, strict=True):
            policy.set_sampler(noise_scale=scale)
            draw_board(axes, scene, theme)
            ChunkLines(axes, flow_states(policy, scene.obs, noise)[-1].chunks, theme)
            axes.set_aspect("equal")
            axes.set_title(f"noise scale {scale:g}", loc="center", fontsize=9)
        return save_picture(picture, path)
