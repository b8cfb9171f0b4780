"""The picture of a dataset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.cameras import CameraFacts, look_at_camera
from lfm_policy.inspection.dataset_plot import dataset_figure
from lfm_policy.inspection.ranges import Ranges

Values = Callable[[ReplayBuffer], tuple[ReplayBuffer, dict[str, Ranges]]]


def draw(arrays: dict[str, np.ndarray], cameras: dict[str, CameraFacts] | None = None) -> Figure:
    steps = len(next(iter(arrays.values())))
    buffer = ReplayBuffer(arrays, np.array([steps // 3, steps]))
    ranges = {key: Ranges.of(array) for key, array in arrays.items()}
    return dataset_figure("data", buffer, ranges, cameras or {}, episodes_drawn=[0, 1])


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.axison]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


def test_actions_in_the_plane_and_frames(
    good: ReplayBuffer, values: Values, look: Callable[[ReplayBuffer], dict[str, CameraFacts]]
) -> None:
    buffer, ranges = values(good)
    cameras = {name: look(good)["image"] for name in ("top", "wrist", "side")}
    figure = dataset_figure("good", buffer, ranges, cameras, episodes_drawn=[0, 3, 5])
    figure.draw_without_rendering()
    drawn = titles(figure)
    assert figure.get_suptitle() == "good: 8 episodes, 392 steps"
    # 1 of lengths, 3 of actions, a row of 8 for 5 distributions, 3 cameras
    assert len(figure.axes) == 1 + 3 + 8 + 3 and len(drawn) == 1 + 3 + 5 + 3
    assert drawn[0] == "episode lengths" and drawn[1].startswith("actions in the plane")
    assert drawn[4:9] == [
        *("action[0]", "action[1]", "gripper[0]", "position[0]", "position[1]"),
    ]
    assert [title.split(":")[0] for title in drawn[9:]] == ["top", "wrist", "side"]
    plane = figure.axes[1]
    assert len(plane.lines) == 3 * 3  # path, start and end of each episode
    path = np.stack(plane.lines[3].get_data(), axis=1)
    np.testing.assert_array_equal(path, buffer.arrays["action"][buffer.steps_of(np.array([3]))])
    sheet = figure.axes[-1]
    assert [text.get_text() for text in sheet.get_yticklabels()] == ["episode 0", "episode 2"]
    assert sheet.images[0].get_array().shape == (2 * 26, 8 * 34, 3)
    assert sum(sum(patch.get_height() for patch in a.patches) for a in figure.axes[:1]) == 8


@pytest.mark.parametrize(("dimensions", "panels"), [(1, 1), (3, 3), (7, 7), (14, 8)])
def test_actions_over_time(dimensions: int, panels: int) -> None:
    figure = draw({"action": random(30, dimensions), "state": random(30, 3)})
    drawn = titles(figure)
    assert drawn[1 : 1 + panels] == [f"action[{d}]" for d in range(panels)]
    assert len(drawn) == 1 + panels + dimensions + 3
    assert all(len(axes.lines) == 2 for axes in figure.axes[1 : 1 + panels])
    texts = [part.get_suptitle() or "" for part in figure.subfigs[0].subfigs]
    assert ("8 of 14 dimensions" in texts[1]) == (dimensions == 14)


def test_many_dimensions_are_capped() -> None:
    figure = draw({"points": random(30, 10, 2), "action": random(30, 2), "state": random(30, 7)})
    drawn = titles(figure)[4:]
    expected = [("action", 2), ("state", 7), ("points", 15)]
    assert drawn == [f"{key}[{d}]" for key, count in expected for d in range(count)]
    note = figure.subfigs[1].get_suptitle()
    assert note == "distributions, 24 of 29 dimensions (dashed: 1% and 99% quantiles)"


def test_no_action() -> None:
    figure = draw({"state": random(30, 3)})
    assert any("no array 'action' to draw" in axes.get_title() for axes in figure.axes)


@pytest.mark.parametrize("values", [np.zeros((30, 2)), np.ones((30, 1), bool)])
def test_dimensions_without_width(values: np.ndarray) -> None:
    draw({"action": values}).draw_without_rendering()


def test_grey_cameras() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (30, 9, 12, 1), dtype=np.uint8)
    buffer = ReplayBuffer({"action": random(30, 2)}, np.array([10, 30]))
    facts = look_at_camera("depth", frames, buffer, episodes_shown=[0, 1])
    figure = draw(buffer.arrays, {"depth": facts})
    figure.draw_without_rendering()
    assert figure.axes[-1].images[0].get_array().ndim == 2
