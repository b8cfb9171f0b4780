"""Pictures of docs/guides/training.md: three small trainings, of which one is good.

    python scripts/docs/guides/draw_trainings.py runs/pictures

Trains what is not in that folder yet, on the demonstrations that the package carries (about half an
hour on one thread, most of it the push-forwards of all 600 episodes), checks it and draws it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lfm_policy.inspection.training_figure import Stretch, stretches
from lfm_policy.pictures import Theme, drawing, figure, log_axis, save

ROOT = Path(__file__).parents[3]
PICTURES = ROOT / "docs" / "guides" / "pictures"
DEMONSTRATIONS = ROOT / "lfm_policy" / "assets" / "pusht_demonstrations.zarr"
WIDTH, DPI = 4.8, 160
"""Inches and dots per inch: text is then readable on a phone that is 390 pixels wide."""

JUMP = 30
"""Largest over smallest loss from which the axis is logarithmic."""

COMMON = ["training.num_threads=1", "training.tracker=none", f"dataset.path={DEMONSTRATIONS}"]
RUNS = {
    "good": [
        "training.total_steps=6000",
        "training.validation_every=200",
        "dataset.validation_ratio=0.1",
    ],
    "overfitting": [
        "training.total_steps=6000",
        "training.validation_every=100",
        "dataset.max_episodes=12",
        "dataset.validation_ratio=0.2",
        "training.obs_noise=0",
        "training.weight_decay=0",
    ],
    "diverging": [
        "training.total_steps=3000",
        "training.validation_every=100",
        "dataset.max_episodes=60",
        "dataset.validation_ratio=0.1",
        "training.learning_rate=0.3",
    ],
}
"""What is different from `pusht/lfm3`, by picture."""


def train(run: Path, options: Sequence[str]) -> None:
    """Train and check what is not there yet."""
    command = [sys.executable, "-m", "lfm_policy"]
    if not (run / "checkpoints" / "final").exists():
        train = ["train", "pusht/lfm3", "--output", str(run), "--device", "cpu", "--quiet"]
        subprocess.run([*command, *train, *COMMON, *options], check=True)
    if not (run / "check" / "check.json").exists():
        subprocess.run([*command, "check", str(run), "--samples", "4", "--quiet"], check=True)


def draw(run: Path, path: Path) -> None:
    """Draw the losses of all blocks, each beside that of what sees no observation."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    parts = stretches([json.loads(line) for line in lines])
    blocks = json.loads((run / "check" / "check.json").read_text(encoding="utf-8"))["blocks"]
    ignorant = {block["block"]: block["ignoring_observations"] for block in blocks}
    with drawing() as theme:
        picture = figure(WIDTH, 4.4, theme=theme)
        rows = picture.subplots(len(parts), 1)
        for axes, part in zip(rows, parts, strict=True):
            _draw_block(axes, part, ignorant[part.block], theme)
        place: dict[str, Any] = {
            "loc": "lower right",
            "bbox_to_anchor": (1.0, 1.0),
            "borderpad": 0.2,
        }
        rows[0].legend(ncols=3, fontsize=8, handlelength=1.4, columnspacing=1, **place)
        rows[-1].set_xlabel("gradient steps of all blocks")
        save(picture, path, dpi=DPI)


def _draw_block(axes: Axes, part: Stretch, ignorant: float, theme: Theme) -> None:
    colour = theme.block_colour(part.block)
    axes.axhline(ignorant, color=theme.muted, linewidth=1, linestyle="--", label="sees nothing")
    axes.plot(*_points(part.train), color=colour, linewidth=1.4, label="training")
    held_out: dict[str, Any] = {"linewidth": 1, "linestyle": ":", "marker": "o", "markersize": 3}
    axes.plot(*_points(part.validation), color=colour, label="held out", **held_out)
    axes.set_title(f"block {part.block}", fontsize=9.5)
    losses = [record["loss"] for record in (*part.train, *part.validation)]
    if max(losses) > JUMP * min(losses):
        log_axis(axes)
    else:
        # Of the first records, before anything is learned, hardly more than the end is shown.
        settled = [*losses[2:], ignorant]
        low, high = min(settled), max(settled)
        axes.set_ylim(low - 0.08 * (high - low), high + 0.3 * (high - low))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(lambda steps, _: f"{steps:,.0f}")
    axes.tick_params(length=0)


def _points(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([(record["step"], record["loss"]) for record in records]).reshape(-1, 2).T


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, options in RUNS.items():
        train(folder / name, options)
        draw(folder / name, PICTURES / f"{name}.png")
