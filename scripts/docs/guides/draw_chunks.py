"""Pictures of docs/guides/chunks.md: what a chunk is made of, and when the next one is asked for.

python scripts/docs/guides/draw_chunks.py
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lfm_policy.config.schema import PolicyConfig
from lfm_policy.pictures import Theme, drawing, figure, save

FOLDER = Path(__file__).parents[3] / "docs" / "guides" / "pictures"
WIDTH, DPI = 4.8, 160
"""Inches and dots per inch: text is then readable on a phone that is 390 pixels wide."""
COMPUTING = 2
"""Ticks that the policy of the second picture takes for a chunk."""
LEAD = 2
TICKS = 22


def draw_chunk(path: Path, lengths: PolicyConfig) -> None:
    """Draw one chunk of a policy with these lengths over its time steps."""
    seen, executed = lengths.n_obs_steps, lengths.n_action_steps
    with drawing() as theme:
        picture = figure(WIDTH, 2.1, theme=theme)
        axes = picture.subplots()
        first = 1 - seen
        for step in range(first, 1):
            _box(axes, step, 1, theme.agent)
        for step in range(first, first + lengths.horizon):
            acts = 0 <= step < executed
            _box(axes, step, 0, theme.blocks[1] if acts else theme.grid)
        axes.text(1.2, 1.5, f"observed: n_obs_steps = {seen}", va="center", color=theme.agent)
        axes.axvline(0, ymax=0.82, color=theme.ink, linewidth=0.8, linestyle=":")
        axes.text(0.1, 2.25, "now", ha="center", color=theme.ink)
        _span(axes, 0, executed, -0.45, f"executed: n_action_steps = {executed}", theme.blocks[1])
        last = first + lengths.horizon
        _span(axes, first, last, -1.3, f"predicted: horizon = {lengths.horizon}", theme.muted)
        axes.set(xlim=(first - 0.6, last + 0.3), ylim=(-2.2, 2.7))
        axes.set_axis_off()
        save(picture, path, dpi=DPI)


def draw_leads(path: Path, executed: int) -> None:
    """Draw what a robot does that asks at the end of a chunk, and one that asks before."""
    with drawing() as theme:
        picture = figure(WIDTH, 3.0, theme=theme)
        for axes, lead in zip(picture.subplots(2, 1, sharex=True), (0, LEAD), strict=True):
            _draw_lead(axes, executed, lead, theme)
        axes.set_xlabel("ticks of the robot")
        axes.tick_params(length=0)
        save(picture, path, dpi=DPI)


def _draw_lead(axes: Axes, executed: int, lead: int, theme: Theme) -> None:
    """Draw the policy's work above the robot's actions, chunk after chunk in two shades."""
    asked, begins, ends, chunk = -COMPUTING, 0, executed, 0
    while begins < TICKS:
        shade = (theme.blocks[0], theme.blocks[3])[chunk % 2]
        axes.add_patch(Rectangle((asked, 1.2), COMPUTING, 0.7, facecolor=shade, alpha=0.45))
        for tick in range(begins, min(ends, TICKS)):
            _box(axes, tick, 0, shade)
        asked = ends - lead
        begins = asked + COMPUTING
        for tick in range(ends, min(begins, TICKS)):
            _box(axes, tick, 0, theme.surface, edge=theme.warning)
            axes.text(tick + 0.5, 0.47, "?", ha="center", va="center", color=theme.warning)
        # Counted from where it was asked for, but a robot that stands still counts nothing.
        ends, chunk = asked + executed + max(0, begins - ends), chunk + 1
    stands = (
        "the robot stands still while it waits" if lead < COMPUTING else "the robot never waits"
    )
    axes.set_title(f"lead {lead}: {stands}", fontsize=9.5)
    axes.set(xlim=(-COMPUTING - 0.2, TICKS), ylim=(-0.15, 2.1))
    axes.set_yticks([0.45, 1.55], ["robot", "policy"])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _box(axes: Axes, step: float, row: float, colour: str, *, edge: str = "none") -> None:
    axes.add_patch(
        Rectangle((step + 0.07, row + 0.07), 0.86, 0.8, facecolor=colour, edgecolor=edge)
    )


def _span(axes: Axes, begin: float, end: float, row: float, text: str, colour: str) -> None:
    axes.plot([begin, end], [row + 0.2, row + 0.2], color=colour, linewidth=1.2)
    axes.text((begin + end) / 2, row - 0.3, text, ha="center", va="center", color=colour)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    draw_chunk(FOLDER / "chunk.png", PolicyConfig())
    draw_leads(FOLDER / "lead.png", PolicyConfig().n_action_steps)
