"""The picture of action chunks that flow from noise to action, block by block."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from lfm_policy.demo.flow_states import FlowState, states_to_show
from lfm_policy.demo.pictures.board import ChunkLines, draw_board
from lfm_policy.demo.pictures.scene import Scene
from lfm_policy.demo.results import PolicyResult
from lfm_policy.pictures import Theme
from lfm_policy.pictures.figures import WIDTH

# Inches.
GAP, TITLE, LABEL, FOOT = 0.34, 0.3, 0.22, 0.16


def flow_figure(policies: Sequence[PolicyResult], scene: Scene, theme: Theme) -> Figure:
    """Draw chunks on the board, one row per policy, from noise on the left to action on the right.

    A student's picture stands below the teacher's at the same place of the chain.
    """
    teacher = policies[0]
    stops = {state.left for student in policies[1:] for state in student.flow}
    columns = states_to_show(list(teacher.flow), teacher.header.config.flow.n_blocks, stops)
    places = [state.left for state in columns]
    side = (WIDTH - GAP * (len(places) - 1)) / len(places)
    row_height = TITLE + LABEL + side + FOOT
    height = row_height * len(policies) - FOOT
    figure = Figure(figsize=(WIDTH, height))
    for row, policy in enumerate(policies):
        top = height - row * row_height
        bottom = top - TITLE - LABEL - side
        colour = theme.policy_colour(policy.student_blocks)
        figure.text(
            0, top / height, policy.title, va="top", weight="bold", fontsize=11, color=colour
        )
        shown = [state for state in policy.flow if state.left in places]
        lefts = [places.index(state.left) * (side + GAP) for state in shown]
        for state, left in zip(shown, lefts, strict=True):
            axes = figure.add_axes((left / WIDTH, bottom / height, side / WIDTH, side / height))
            draw_board(axes, scene, theme)
            ChunkLines(axes, state.chunks, theme)
            axes.set_title(
                _label(state), fontsize=9, weight="normal", color=theme.muted, loc="center"
            )
        for k in range(1, len(shown)):
            evaluations = shown[k].evaluations - shown[k - 1].evaluations
            _arrow(figure, lefts[k - 1] + side, lefts[k], bottom + side / 2, evaluations, theme)
    return figure


def _label(state: FlowState) -> str:
    if state.block is None:
        return "noise"
    if state.left == 0:
        return "action"
    at_end = state.time == 0
    return f"after block {state.block}" if at_end else f"in block {state.block}, t = {state.time:g}"


def _arrow(
    figure: Figure, start: float, end: float, y: float, evaluations: int, theme: Theme
) -> None:
    """Draw an arrow between two pictures, in inches, with the evaluations it stands for."""
    width, height = figure.get_size_inches()
    pad = 0.04
    figure.add_artist(
        FancyArrowPatch(
            ((start + pad) / width, y / height),
            ((end - pad) / width, y / height),
            arrowstyle="-|>",
            mutation_scale=9,
            color=theme.muted,
            linewidth=1.1,
            shrinkA=0,
            shrinkB=0,
            transform=figure.transFigure,
        )
    )
    words = f" network evaluation{'s' * (evaluations != 1)}" if end - start > 1 else ""
    figure.text(
        (start + end) / 2 / width,
        (y + 0.07) / height,
        f"{evaluations}{words}",
        ha="center",
        va="bottom",
        fontsize=9,
        color=theme.muted,
    )
