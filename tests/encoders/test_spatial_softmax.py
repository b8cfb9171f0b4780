"""Expected positions of feature maps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.encoders.spatial_softmax import SpatialSoftmax


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


# -- spread, values and temperatures --------------------------------------------------------------


def bell(
    size: tuple[int, int], centre: tuple[float, float], lengths: tuple[float, float], angle: float
) -> torch.Tensor:
    """Return the logarithm of a Gaussian, (h, w): lengths in cells along its axes, turned."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in size)
    x, y = columns[None] - centre[0], rows[:, None] - centre[1]
    cos, sin = math.cos(angle), math.sin(angle)
    along, across = cos * x + sin * y, cos * y - sin * x
    return (-((along / lengths[0]) ** 2 + (across / lengths[1]) ** 2) / 2).float()


@settings(max_examples=30, deadline=None)
@given(x=st.floats(6, 14), y=st.floats(6, 14), angle=st.floats(-1.5, 1.5))
def test_place_and_spread_of_a_bell_between_pixels(x: float, y: float, angle: float) -> None:
    size, lengths = (21, 21), (1.8, 0.9)
    found = SpatialSoftmax(*size, spread=True)(bell(size, (x, y), lengths, angle)[None, None])[0]
    cell = 2 / 20
    # A tenth of a pixel of a cell of 4 is a fortieth of a cell.
    torch.testing.assert_close(found[:2], torch.tensor([x, y]) * cell - 1, atol=cell / 40, rtol=0)
    xx, yy, xy = (found[2:] / cell**2).tolist()
    large, small = (length**2 for length in lengths)
    assert xx + yy == pytest.approx(large + small, rel=0.02)
    # Twice the angle, as a line has no direction.
    assert xx - yy == pytest.approx((large - small) * math.cos(2 * angle), abs=0.06)
    assert 2 * xy == pytest.approx((large - small) * math.sin(2 * angle), abs=0.06)


def test_a_spot_has_no_spread_and_an_even_map_that_of_the_image() -> None:
    softmax = SpatialSoftmax(5, 5, spread=True)
    spot, even = torch.full((1, 1, 5, 5), -1e4), torch.zeros(1, 1, 5, 5)
    spot[0, 0, 1, 3] = 0
    torch.testing.assert_close(softmax(spot)[0], torch.tensor([0.5, -0.5, 0, 0, 0]))
    # The mean of 1, 1/4, 0, 1/4 and 1.
    torch.testing.assert_close(softmax(even)[0], torch.tensor([0.0, 0.0, 0.5, 0.5, 0.0]))


def test_values_are_those_of_the_place_of_their_keypoint() -> None:
    maps = torch.full((1, 2, 3, 4), -1e4)
    maps[0, 0, 1, 2] = maps[0, 1, 2, 0] = 0
    values = torch.randn(1, 6, 3, 4)
    found = SpatialSoftmax(3, 4)(maps, values)
    # x of both keypoints, y of both, then their first, second and third value.
    seen = torch.stack([values[0, :3, 1, 2], values[0, 3:, 2, 0]], dim=1)
    torch.testing.assert_close(found[0, 4:], seen.flatten())
    even = SpatialSoftmax(3, 4)(torch.zeros(1, 2, 3, 4), values)
    means = values.mean(dim=(2, 3)).view(2, 3).T
    torch.testing.assert_close(even[0, 4:], means.flatten())


def test_every_keypoint_may_have_its_own_temperature() -> None:
    softmax = SpatialSoftmax(1, 5, keypoints=2)
    assert softmax.temperature.shape == (2, 1, 1)
    maps = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).expand(1, 2, 1, 5)
    with torch.no_grad():
        softmax.temperature.copy_(torch.tensor([0.01, 100.0])[:, None, None])
    sharp, blunt = softmax(maps)[0, :2].tolist()
    assert sharp == pytest.approx(1) and blunt == pytest.approx(0, abs=0.01)


def test_a_lower_temperature_is_brighter_maps() -> None:
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(
        SpatialSoftmax(4, 5, temperature=0.25)(maps), SpatialSoftmax(4, 5)(4 * maps)
    )


# -- precision ------------------------------------------------------------------------------------


def test_keypoints_are_in_float32_under_autocast() -> None:
    softmax = SpatialSoftmax(9, 11, spread=True)
    maps, values = 5 * torch.randn(2, 3, 9, 11), torch.randn(2, 3, 9, 11)
    expected = softmax(maps, values)
    with torch.autocast("cpu", torch.bfloat16):
        found = softmax(maps, values)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    half = softmax(maps.bfloat16(), values.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, softmax(maps.bfloat16().float(), values.bfloat16().float()))
