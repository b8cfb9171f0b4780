"""The film of action chunks that flow from noise to action, all policies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from lfm_envs.pusht import BOARD_SIZE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lfm_policy.demo.flow_states import FlowState
from lfm_policy.demo.pictures.board import MARGIN, ChunkLines, draw_board
from lfm_policy.demo.pictures.films import write_last_frame
from lfm_policy.demo.pictures.scene import Scene
from lfm_policy.demo.results import PolicyResult
from lfm_policy.evaluation.recording import write_video
from lfm_policy.pictures import drawing

FPS = 12
NOISE_FRAMES, FLOW_FRAMES, ACTION_FRAMES = 8, 48, 16
SIDE, GAP, LABEL = 360, 12, 54
"""Pixels, all even: H.264 asks for that."""


def write_flow_film(video: Path, policies: Sequence[PolicyResult], scene: Scene) -> None:
    """Write a film in which every policy makes its way from noise to action in the same time.

    Between two steps a chunk moves along a straight line, which is what a step of Euler's method
    does.

    Args:
        video: where it goes; its last frame goes beside it.
        policies: with their flows.
        scene: where they were sampled.
    """
    width = len(policies) * (SIDE + GAP) - GAP
    dpi = 100
    with drawing() as theme:
        figure = Figure(figsize=(width / dpi, (SIDE + LABEL) / dpi), dpi=dpi)
        canvas = FigureCanvasAgg(figure)
        lines, counts = [], []
        for k, policy in enumerate(policies):
            left = k * (SIDE + GAP) / width
            height = SIDE / (SIDE + LABEL)
            axes = figure.add_axes((left, 0, SIDE / width, height))
            draw_board(axes, scene, theme)
            lines.append(ChunkLines(axes, policy.flow[0].chunks, theme))
            # Where the board begins, inside its margin.
            text_left = left + SIDE * MARGIN / (BOARD_SIZE + 2 * MARGIN) / width
            colour = theme.policy_colour(policy.student_blocks)
            figure.text(
                text_left, 0.975, policy.title, va="top", weight="bold", fontsize=12, color=colour
            )
            counts.append(
                figure.text(text_left, 0.925, "", fontsize=10, va="top", color=theme.muted)
            )
        frames = []
        for share in np.linspace(1, 0, FLOW_FRAMES):
            for policy, line, count in zip(policies, lines, counts, strict=True):
                chunks, evaluations = flow_at(policy.flow, float(share))
                line.move_to(chunks)
                total = policy.flow[-1].evaluations
                count.set_text(f"network evaluation {evaluations} of {total}")
            canvas.draw()
            frames.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    frames = [frames[0]] * NOISE_FRAMES + frames + [frames[-1]] * ACTION_FRAMES
    write_video(video, frames, fps=FPS)
    write_last_frame(video)


def flow_at(flow: Sequence[FlowState], left: float) -> tuple[np.ndarray, int]:
    """Return chunks (S, horizon, action_dim) and evaluations begun when ``left`` is to go.

    Args:
        flow: states in the order of sampling.
        left: share of the chain, 1 at the noise, 0 at the action.
    """
    for before, after in pairwise(flow):
        if left >= after.left:
            way = (float(before.left) - left) / float(before.left - after.left)
            begun = after.evaluations if way > 0 else before.evaluations
            return before.chunks + way * (after.chunks - before.chunks), begun
    return flow[-1].chunks, flow[-1].evaluations
