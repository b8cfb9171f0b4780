"""The picture of a training: whose curve it is, what happened when, whatever there is of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from lfm_policy.inspection.training_figure import stretches, training_figure
from lfm_policy.pictures import LIGHT, drawing, save


def run(*parts: tuple[int, int], every: int = 10, pause_after: int = 0) -> list[dict[str, Any]]:
    """Return records of a run of parts (block, steps), with a push-forward after each."""
    records, step, now = [], 0, 1e9
    for block, steps in parts:
        for _ in range(steps // every):
            step, now = step + every, now + 1.0
            record = {"block": block, "step": step, "time": now}
            train = {"loss": 1 / step + block, "learning_rate": 1e-3, "steps_per_second": 10.0}
            records.append({"kind": "train", **record, **train})
            if step % (5 * every) == 0:
                records.append({"kind": "validation", **record, "loss": 2 / step + block})
            now += 7200.0 * (step == pause_after)
        now += 90.0
        records.append({"kind": "push_forward", **record, "time": now, "seconds": 90.0})
    return records


def drawn(metrics: list[dict[str, Any]]) -> Figure:
    with drawing() as theme:
        figure = training_figure("a run", "its facts", metrics, theme)
        figure.draw_without_rendering()
    return figure


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.get_axes()[0].get_legend().get_texts()]


def test_every_block_has_its_colour_and_name_outside_of_the_curves() -> None:
    figure = drawn(run((1, 300), (2, 300)))
    losses, rates, speeds, clock = figure.get_axes()
    assert legend(figure) == [
        "block 1",
        "block 2",
        "held-out demonstrations",
        "as logged",
        "push-forward, seconds",
    ]
    box = losses.get_legend().get_window_extent()
    assert box.x0 >= losses.bbox.x1
    colours = [LIGHT.block_colour(1), LIGHT.block_colour(2)]
    for axes in (rates, speeds):
        assert [line.get_color() for line in axes.lines] == colours
    assert {line.get_color() for line in clock.lines} == {*colours}
    for axes in (losses, rates, speeds, clock):
        assert axes.get_title(loc="left") and axes.get_xlabel()
    assert losses.get_yscale() == "log"
    # Lines: as logged and smoothed; dots: held out.
    dotted = [line for line in losses.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [len(line.get_xdata()) for line in dotted] == [6, 6]
    assert [text.get_text() for text in losses.texts] == ["90 s"] * 2


def test_the_joint_part_is_named_and_a_prolonged_block_is_not_joined_across_others() -> None:
    metrics = run((0, 100), (1, 100), (2, 100), (1, 50), (2, 50))
    assert [part.block for part in stretches(metrics)] == [0, 1, 2, 1, 2]
    figure = drawn(metrics)
    assert legend(figure)[:3] == ["encoder and blocks together", "block 1", "block 2"]
    rates = figure.get_axes()[1]
    spans = [(line.get_xdata()[0], line.get_xdata()[-1]) for line in rates.lines]
    assert spans == [(10, 100), (110, 200), (210, 300), (310, 350), (360, 400)]


def test_a_pause_is_marked_and_takes_no_room_but_a_push_forward_does() -> None:
    clock = drawn(run((1, 200), pause_after=100)).get_axes()[3]
    assert [text.get_text() for text in clock.texts] == ["paused 2.0 h"]
    assert clock.get_xlabel() == "seconds"
    # 20 records, a second apart but for the pause, and the push-forward.
    assert max(line.get_xdata()[-1] for line in clock.lines) == pytest.approx(18 + 90)
    assert not drawn(run((1, 200))).get_axes()[3].texts
    rollout = {"kind": "rollout", "block": 1, "step": 200, "score": 0.5, "low": 0.4, "high": 0.6}
    metrics = [*run((1, 200)), {**rollout, "episodes": 8, "time": 1e9 + 4000}]
    assert not drawn(metrics).get_axes()[3].texts


@pytest.mark.parametrize("told", [True, False])
def test_rollouts_have_intervals_and_the_best_is_ringed(told: bool) -> None:
    metrics = run((1, 100))
    for step, solved, best in ((40, 2, True), (70, 6, True), (100, 5, False)):
        said = {"successes": solved} if told else {}
        record = {"kind": "rollout", "block": 1, "step": step, "time": 1e9 + step, **said}
        facts = {"episodes": 8, "score": solved / 10, "low": 0.1, "high": 0.8, "best": best}
        metrics.append(record | facts)
    axes = drawn(metrics).get_axes()[-1]
    points = axes.lines[0]
    expected = [2 / 8, 6 / 8, 5 / 8] if told else [0.2, 0.6, 0.5]
    assert points.get_xdata().tolist() == [40, 70, 100]
    assert points.get_ydata().tolist() == expected
    (intervals,) = [part for part in axes.collections if part.get_gid() == "intervals"]
    assert [segment[:, 1].tolist() for segment in intervals.get_segments()] == [[0.1, 0.8]] * 3
    (ring,) = [line for line in axes.lines if line.get_gid() == "best"]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (70, expected[1])
    assert axes.get_ylabel() == ("success, 95% interval" if told else "score, 95% interval")


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        run((1, 10)),
        [{"kind": "train", "block": 1, "step": 1}],
        [{"kind": "event", "block": 1, "step": 0, "time": 1e9, "message": "checkpoint"}],
        [{"kind": "train", "block": 1, "step": k, "loss": -1.0 * k, "time": 5.0} for k in (1, 2)],
    ],
    ids=["nothing", "one point", "no numbers", "an event", "losses below zero"],
)
def test_little_can_be_drawn(metrics: list[dict[str, Any]], tmp_path: Path) -> None:
    figure = drawn(metrics)
    with drawing():
        save(figure, tmp_path / "training.png")
    losses = figure.get_axes()[0]
    drawn_points = np.concatenate([[0.0], *(line.get_xdata() for line in losses.lines)])
    has_losses = any("loss" in record for record in metrics)
    assert (len(drawn_points) > 1) == has_losses
