"""The picture of an evaluation: every number has its interval, every axis says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lfm_policy.evaluation import Cell, EpisodeResult, bootstrap_mean, wilson_interval
from lfm_policy.evaluation.episodes import describe_outcome
from lfm_policy.evaluation.reporting.figure import evaluation_figure, plot_evaluation
from lfm_policy.pictures import LIGHT, drawing
from lfm_runtime.policy.sampler import Sampler

LATENCY = {"median_ms": 1.25, "p95_ms": 2.5, "threads": 1, "device": "cpu"}
FRAME = np.full((20, 20, 3), 128, np.uint8)


def cell(nfe: int, solved: int, n: int = 8, solver: str = "euler") -> Cell:
    episodes = [
        EpisodeResult(
            k, 100_000 + k, k < solved, 1.0 if k < solved else 0.9951, None, 20 + k, 4, nfe
        )
        for k in range(n)
    ]
    return Cell(Sampler(solver, nfe, (nfe,)), LATENCY, episodes)


def drawn(cells: list[Cell], frames: dict[int, np.ndarray], student_blocks: int = 0) -> Figure:
    with drawing() as theme:
        figure = evaluation_figure("a policy", cells, frames, theme, student_blocks)
        figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("solved", [[5], [0, 3, 8]])
def test_every_number_has_its_interval(solved: list[int]) -> None:
    cells = [cell(2**k, count) for k, count in enumerate(solved)]
    success, score, time, *_ = drawn(cells, {}).get_axes()
    for axes in (success, score, time):
        values = [line for line in axes.lines if line.get_marker() == "o"]
        intervals = [line for line in axes.lines if line.get_gid() == "interval"]
        assert len(values) == len(intervals) == len(cells) == len(axes.texts)
    ends = [tuple(line.get_xdata()) for line in success.lines if line.get_gid() == "interval"]
    assert ends == [wilson_interval(count, 8) for count in solved]
    ends = [tuple(line.get_xdata()) for line in score.lines if line.get_gid() == "interval"]
    rewards = [[result.max_reward for result in one.episodes] for one in cells]
    assert ends == [bootstrap_mean(values) for values in rewards]


def test_every_axis_says_what_it_is_and_the_headline_of_what() -> None:
    figure = drawn([cell(1, 3), cell(2, 5)], {})
    for axes in figure.get_axes():
        assert axes.get_title(loc="left") and axes.get_xlabel()
    words = " ".join(text.get_text() for text in figure.texts)
    assert "a policy" in words and "n = 8 episodes, seeds 100000 to 100007" in words
    rows = [label.get_text() for label in figure.get_axes()[0].get_yticklabels()]
    assert rows == ["1 evaluation", "2 evaluations"]


def test_samplers_of_one_policy_have_its_colour_and_differ_in_their_lines() -> None:
    figure = drawn([cell(2, 3), cell(2, 5, solver="heun")], {}, student_blocks=2)
    *_, rewards, steps = figure.get_axes()
    for axes in (rewards, steps):
        assert {line.get_color() for line in axes.lines} == {LIGHT.policy_colour(2)}
        assert len({line.get_linestyle() for line in axes.lines}) == 2
    legend = [text.get_text() for text in steps.get_legend().get_texts()]
    assert legend == ["euler, 2 evaluations", "heun, 2 evaluations"]
    # At the end as many are solved as were; where nobody is left, all rewards are counted.
    assert [line.get_ydata()[-1] for line in steps.lines] == [3 / 8, 5 / 8]
    assert [line.get_ydata()[-1] for line in rewards.lines] == [1, 1]


def test_pictures_say_seed_and_outcome(tmp_path: Path) -> None:
    frames = {k: FRAME for k in (1, 5)}
    figure = drawn([cell(2, 4)], frames)
    below = [axes.get_xlabel() for axes in figure.get_axes() if axes.images]
    assert below == [
        "seed 100001\nsolved in 21 steps",
        "seed 100005\nnot solved\nlargest reward 0.995",
    ]
    plot_evaluation(tmp_path / "eval.png", "title", [cell(2, 4)], frames)
    assert np.asarray(Image.open(tmp_path / "eval.png")).std() > 10


def test_an_outcome_that_nobody_tells() -> None:
    assert describe_outcome(EpisodeResult(0, 0, None, 3.456, None, 30, 4, 1)) == (
        "ended after 30 steps, largest reward 3.46"
    )
