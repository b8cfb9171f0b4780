"""Picture of docs/how/guidance.md: what an observation asks for, followed more or less closely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from draw_noise import HORIZON, STEP_SIZES, draw_ways, two_ways
from look import page_figure, save_picture
from mixture import exact_chain
from torch import Tensor, nn

from lfm_policy.flow import FlowBlock, FlowChain, OptionalCondition, SolverSpec, guided
from lfm_policy.flow.solvers.velocity import Network
from lfm_policy.pictures import drawing

WEIGHTS = (0.0, 1.0, 3.0)
ABOVE, ABOVE_OF_ALL = 0.7, 0.5
"""Demonstrated chunks above the obstacle: for the observation, and for all of them."""


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw it into a folder; ``quick``: as rough as it may be."""
    return [draw_guided_ways(folder / "guidance_ways.png", n_steps=2 if quick else 64)]


class _Exact(nn.Module):
    """The velocity for the observation where cond is 1, and for none where it is the vector's."""

    def __init__(self, told: Network, without: Network) -> None:
        super().__init__()
        self._told, self._without = told, without

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        seen = (cond == 1).view(-1, *(1,) * (x.ndim - 1))
        return torch.where(seen, self._told(x, t, None), self._without(x, t, None))


def guided_chain(weight: float) -> FlowChain:
    """Return exact blocks with guidance."""
    told, without = (exact_chain(two_ways(share), STEP_SIZES) for share in (ABOVE, ABOVE_OF_ALL))
    blocks = []
    for n in range(1, told.n_blocks + 1):
        exact = _Exact(told.block(n).network, without.block(n).network)
        network = guided(OptionalCondition(exact, 1), weight)
        blocks.append(FlowBlock(network, told.block(n).step))
    return FlowChain(blocks)


def draw_guided_ways(path: Path, *, n_steps: int) -> Path:
    """Draw what is sampled with weights of the observation below, at and above 1."""
    with drawing() as theme:
        picture = page_figure(1.5)
        panels: Any = picture.subplots(1, len(WEIGHTS))
        for axes, weight in zip(panels, WEIGHTS, strict=True):
            torch.manual_seed(0)
            noise, cond = torch.randn(400, HORIZON, 2), torch.ones(400, 1)
            solver = SolverSpec("midpoint", n_steps)
            chunks = guided_chain(weight).sample(noise, cond, solver=solver).x
            share = float((chunks[:, HORIZON // 2, 1] > 0).float().mean())
            draw_ways(axes, chunks[:60], theme)
            axes.set_title(f"$w$ = {weight:g}: {share:.0%} above", loc="center", fontsize=9)
        return save_picture(picture, path)
