"""Good demonstrations, for defects to be put into."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.inspection.cameras import CameraFacts, look_at_camera
from lfm_policy.inspection.finding import Finding
from lfm_policy.inspection.findings import find_all
from lfm_policy.inspection.ranges import Ranges

LENGTHS = (40, 52, 45, 60, 48, 55, 50, 42)


def demonstrations(*, velocities: bool = False) -> ReplayBuffer:
    """Return 8 episodes in which a camera sees a robot follow smooth targets in the plane.

    ``action`` (2,) are absolute targets, or velocities; ``position`` (2,) follows them one step
    later; ``gripper`` (1,) opens and closes; ``image`` (24, 32, 3) shows a square at the position.
    """
    generator = np.random.default_rng(0)
    actions, positions, grippers, images = [], [], [], []
    for length in LENGTHS:
        time = np.arange(length + 1)[:, None]
        rate = generator.uniform(0.1, 0.3, size=(3, 2))
        phase = generator.uniform(0, 2 * np.pi, size=(3, 2))
        path = sum(np.sin(time * r + p) for r, p in zip(rate, phase, strict=True)) / 3
        target = path + generator.normal(scale=0.02, size=path.shape)
        position = np.concatenate([target[:1], target[:-1]])
        if velocities:
            position = np.concatenate([np.zeros((1, 2)), np.cumsum(target[:-1], axis=0)]) / 10
        actions.append(target[:length])
        positions.append(position[:length])
        grippers.append((np.arange(length)[:, None] // generator.integers(5, 20)) % 2)
        frames = generator.integers(90, 110, size=(length, 24, 32, 3), dtype=np.uint8)
        for frame, (x, y) in zip(frames, position[:length], strict=True):
            row, column = int(9 + 8 * np.tanh(y)), int(13 + 12 * np.tanh(x))
            frame[row : row + 6, column : column + 6] = (200, 40, 40)
        images.append(frames)
    return ReplayBuffer(
        arrays={
            "action": np.concatenate(actions).astype(np.float32),
            "position": np.concatenate(positions).astype(np.float32),
            "gripper": np.concatenate(grippers).astype(np.int64),
            "image": np.concatenate(images),
        },
        episode_ends=np.cumsum(LENGTHS),
        source="good data",
    )


@pytest.fixture
def good() -> ReplayBuffer:
    """Demonstrations without defects, absolute actions; the test may change the arrays."""
    return demonstrations()


@pytest.fixture
def good_velocities() -> ReplayBuffer:
    """The same with velocities as actions."""
    return demonstrations(velocities=True)


@pytest.fixture
def look() -> Callable[[ReplayBuffer], dict[str, CameraFacts]]:
    """Return a function that looks at the camera ``image`` of demonstrations."""

    def look(buffer: ReplayBuffer) -> dict[str, CameraFacts]:
        frames = buffer.arrays["image"]
        return {"image": look_at_camera("image", frames, buffer, episodes_shown=[0, 2])}

    return look


@pytest.fixture
def values() -> Callable[[ReplayBuffer], tuple[ReplayBuffer, dict[str, Ranges]]]:
    """Return a function that gives the low-dimensional arrays and their ranges."""

    def values(buffer: ReplayBuffer) -> tuple[ReplayBuffer, dict[str, Ranges]]:
        arrays = {key: array for key, array in buffer.arrays.items() if key != "image"}
        ranges = {key: Ranges.of(array) for key, array in arrays.items()}
        return ReplayBuffer(arrays, buffer.episode_ends), ranges

    return values


@pytest.fixture
def find(
    look: Callable[[ReplayBuffer], dict[str, CameraFacts]],
    values: Callable[[ReplayBuffer], tuple[ReplayBuffer, Mapping[str, Ranges]]],
) -> Callable[..., list[Finding]]:
    """Return a function that gives all warnings about demonstrations."""

    def find(buffer: ReplayBuffer, *, fps: float | None = None) -> list[Finding]:
        return find_all(*values(buffer), look(buffer), fps=fps)[0]

    return find
