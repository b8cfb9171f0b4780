"""Expected positions of feature maps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.encoders.image import SpatialSoftmax


def coordinate(index: int, size: int) -> float:
    return 2 * index / (size - 1) - 1 if size > 1 else 0.0


@settings(max_examples=40, deadline=None)
@given(data=st.data(), height=st.integers(1, 6), width=st.integers(1, 6))
def test_a_single_bright_pixel_gives_its_position(
    data: st.DataObject, height: int, width: int
) -> None:
    spots = data.draw(
        st.lists(
            st.tuples(st.integers(0, height - 1), st.integers(0, width - 1)),
            min_size=1,
            max_size=4,
        )
    )
    maps = torch.zeros(1, len(spots), height, width)
    for k, (row, column) in enumerate(spots):
        maps[0, k, row, column] = 100.0
    positions = SpatialSoftmax(height, width)(maps)
    assert positions.shape == (1, 2 * len(spots))
    x = [coordinate(column, width) for _, column in spots]
    y = [coordinate(row, height) for row, _ in spots]
    torch.testing.assert_close(positions[0], torch.tensor([*x, *y]))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(-3, 3), columns=st.integers(-3, 3))
def test_a_pattern_that_moves_moves_its_position(rows: int, columns: int) -> None:
    softmax = SpatialSoftmax(13, 13)
    # So bright that what surrounds it counts for nothing, wherever it is.
    maps = torch.zeros(1, 2, 13, 13)
    maps[:, :, 5:8, 5:8] = 40 + torch.randn(1, 2, 3, 3, generator=torch.manual_seed(0))
    moved = maps.roll((rows, columns), dims=(2, 3))
    step = 2 / 12
    expected = softmax(maps) + torch.tensor([columns, columns, rows, rows]) * step
    torch.testing.assert_close(softmax(moved), expected)


def test_an_even_map_is_at_the_centre_and_brightness_does_not_matter() -> None:
    softmax = SpatialSoftmax(4, 5)
    torch.testing.assert_close(softmax(torch.zeros(2, 3, 4, 5)), torch.zeros(2, 6))
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(softmax(maps + 7), softmax(maps))


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1)])
def test_maps_of_one_row_or_column(size: tuple[int, int]) -> None:
    positions = SpatialSoftmax(*size)(torch.randn(2, 3, *size))
    assert positions.shape == (2, 6) and positions.abs().max() <= 1
    for axis, side in ((0, size[1]), (1, size[0])):
        if side == 1:
            assert not positions[:, 3 * axis : 3 * axis + 3].any()


def test_only_the_temperature_is_stored_and_it_learns() -> None:
    softmax = SpatialSoftmax(4, 5)
    assert list(softmax.state_dict()) == ["temperature"]
    softmax(torch.randn(2, 3, 4, 5)).square().sum().backward()
    assert softmax.temperature.grad is not None and softmax.temperature.grad.abs() > 0
