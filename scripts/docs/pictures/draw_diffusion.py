"""Picture of docs/how/diffusion.md: the times that samplers of few steps visit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from look import page_figure, save_picture
from matplotlib.axes import Axes

from lfm_policy.flow import DiffusionConfig
from lfm_policy.flow.methods.diffusion.schedulers import sampler, training_scheduler
from lfm_policy.pictures import Theme, drawing

SAMPLERS = (
    ("ddim, leading", "ddim", "leading"),
    ("ddim, trailing", "ddim", "trailing"),
    ("dpmsolver++", "dpmsolver++", ""),
)
STEPS = (10, 2)
CHUNK = -6
"""Where on the axis of times the chunk is drawn that the last step gives."""


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw it into a folder; there is nothing that could be rougher."""
    return [draw_times(folder / "diffusion_times.png")]


def draw_times(path: Path) -> Path:
    """Draw how much of a point is noise over the times, and at which times samplers ask."""
    with drawing() as theme:
        picture = page_figure(3.6)
        panels: Any = picture.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
        _draw_noise(panels[0], theme)
        _draw_samplers(panels[1], theme)
        return save_picture(picture, path)


def _draw_noise(axes: Axes, theme: Theme) -> None:
    config = DiffusionConfig()
    kept = training_scheduler(config).alphas_cumprod.double()
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    noise, chunk = theme.block_colour(2), theme.block_colour(1)
    axes.plot(sigma, color=noise, linewidth=1.8)
    axes.plot(alpha, "--", color=chunk, linewidth=1.8)
    axes.text(97, 0.75, r"noise, $\sigma_\tau$", color=noise, va="center")
    axes.text(2, 0.75, r"chunk, $\alpha_\tau$", color=chunk, ha="right", va="center")
    axes.set(ylim=(-0.03, 1.05), yticks=[0, 1])
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _draw_samplers(axes: Axes, theme: Theme) -> None:
    rows = [(*known, n_steps) for known in SAMPLERS for n_steps in STEPS]
    for row, (_, solver, spacing, n_steps) in enumerate(rows):
        times = sampler(DiffusionConfig(spacing=spacing), solver, n_steps).timesteps
        colour = theme.policy_colour(2 * STEPS.index(n_steps))
        axes.plot([*times, CHUNK], [row] * (n_steps + 1), color=colour, linewidth=1)
        axes.plot(times, [row] * n_steps, "o", color=colour, markersize=5)
        axes.text(times[0] + 3, row, f"{times[0]}", color=colour, ha="right", va="center")
    axes.plot([CHUNK] * len(rows), range(len(rows)), "s", color=theme.ink, markersize=5)
    axes.set_yticks(range(len(rows)), [f"{name}: {n}" for name, *_, n in rows], color=theme.ink)
    last = DiffusionConfig().train_steps - 1
    axes.set_xticks([last, 50, CHUNK], [f"$\\tau$ = {last}", "50", "chunk"], color=theme.ink)
    axes.set(xlim=(last + 14, CHUNK - 4), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(visible=False)
    axes.tick_params(length=0)
