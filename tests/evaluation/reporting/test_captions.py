"""The strip below the frames of a film; the frames themselves stay as they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lfm_policy.evaluation.reporting.captions import LEAST_WIDTH, Captions

CAPTIONS = Captions(steps=20, hz=10, chunk=8, colour="#b85c00", outcome="not solved")
DARK, LIGHT_SHADE = (184, 92, 0), (219, 173, 127)


def below(captions: Captions, height: int = 96, width: int = 200) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    frames = [
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(captions.steps + 1)
    ]
    rewards = [-math.inf, *np.linspace(0, 0.9951, captions.steps)]
    film = captions.below(frames, rewards)
    for frame, captioned in zip(frames, film, strict=True):
        np.testing.assert_array_equal(captioned[:height], frame)
    return [frame[height:] for frame in film]


@pytest.mark.parametrize(("height", "width"), [(96, 96), (97, 201), (256, 256), (480, 640)])
def test_only_a_strip_is_added_and_it_is_low(height: int, width: int) -> None:
    strips = below(CAPTIONS, height, width)
    assert {strip.shape for strip in strips} == {strips[0].shape}
    low = strips[0].shape[0]
    assert (height + low) % 2 == 0 and low <= max(0.2 * height, 32)
    assert all(strip.dtype == np.uint8 for strip in strips)


def test_frames_too_small_to_write_on_stay_as_they_are() -> None:
    frames = [np.zeros((64, LEAST_WIDTH - 1, 3), np.uint8)] * 2
    assert CAPTIONS.below(frames, [0, 0])[0].shape == (64, LEAST_WIDTH - 1, 3)


def test_the_bar_grows_and_changes_where_chunks_join() -> None:
    strips = below(CAPTIONS)
    for step, strip in enumerate(strips):
        shades = [tuple(map(int, strip[0, int(10 * k + 5)])) for k in range(step)]
        assert shades == [DARK if k // 8 % 2 == 0 else LIGHT_SHADE for k in range(step)]
        assert (strip[0, 10 * step :] == 255).all()


def test_a_dot_where_the_policy_is_asked() -> None:
    asked = [
        step
        for step, strip in enumerate(below(CAPTIONS))
        if (strip[5:, -12:] == np.array(DARK, np.uint8)).all(axis=2).any()
    ]
    assert asked == [0, 8, 16]


def test_text_changes_with_step_reward_and_outcome() -> None:
    strips, other = below(CAPTIONS), below(replace(CAPTIONS, outcome="solved in 20 steps"))
    assert not (strips[3][4:] == strips[4][4:]).all()
    for step, (one, two) in enumerate(zip(strips, other, strict=True)):
        assert (one == two).all() == (step < 20)
