"""Chunks of two policies that look back differently far."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.distillation.shift import ChunkShift


@given(steps=st.integers(-4, 4), horizon=st.integers(5, 9), points=st.integers(1, 3))
def test_an_action_stands_at_its_own_time(steps: int, horizon: int, points: int) -> None:
    """Of a chunk whose numbers are the teacher's places, the student's has its own plus steps."""
    shift = ChunkShift(steps)
    x = torch.arange(float(horizon))[None, :, None].repeat(2, 1, 3)
    expected = (torch.arange(horizon) + steps).clamp(0, horizon - 1).float()
    assert torch.equal(shift.chunk(x)[1, :, 2], expected)
    assert torch.equal(shift.back(shift.state(x)), x)
    inside = (torch.arange(horizon) + steps >= 0) & (torch.arange(horizon) + steps < horizon)
    assert torch.equal(shift.state(x)[:, inside], shift.chunk(x)[:, inside])
    path = torch.stack([x + 100 * k for k in range(points)], dim=1)
    assert torch.equal(shift.path(path, to_data=False), shift.state(path))
    to_data = shift.path(path, to_data=True)
    assert torch.equal(to_data[:, 0], shift.chunk(x))
    assert torch.equal(to_data[:, 1:], shift.state(path)[:, 1:])
