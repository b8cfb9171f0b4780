from __future__ import annotations

import math

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.flow import INTERPOLANTS, Interpolant


@pytest.fixture(params=INTERPOLANTS.names())
def interpolant(request: pytest.FixtureRequest) -> Interpolant:
    return INTERPOLANTS.get(request.param)


@pytest.mark.parametrize("shape", [(), (3,), (4, 2), (2, 3, 2)])
def test_ends_are_the_pair(interpolant: Interpolant, shape: tuple[int, ...]) -> None:
    x_l, x_r = torch.randn(2, 5, *shape, dtype=torch.float64)
    for value, end in ((0.0, x_l), (1.0, x_r)):
        path = interpolant.interpolate(x_l, x_r, torch.full((5,), value, dtype=torch.float64))
        torch.testing.assert_close(path.x_t, end)


def test_derivative_is_that_of_the_path(interpolant: Interpolant) -> None:
    x_l, x_r = torch.randn(2, 7, 4, 2, dtype=torch.float64)
    t = torch.rand(7, dtype=torch.float64)
    x_t, derivative = torch.autograd.functional.jvp(
        lambda time: interpolant.interpolate(x_l, x_r, time).x_t, t, torch.ones_like(t)
    )
    path = interpolant.interpolate(x_l, x_r, t)
    assert torch.equal(path.t, t)
    torch.testing.assert_close(path.x_t, x_t)
    torch.testing.assert_close(path.dx_t, derivative)


def test_short_cuts_agree_with_the_coefficients(interpolant: Interpolant) -> None:
    x_l, x_r = torch.randn(2, 6, 3, 2, dtype=torch.float64)
    t = torch.rand(6, dtype=torch.float64)
    own = interpolant.interpolate(x_l, x_r, t)
    general = Interpolant.interpolate(interpolant, x_l, x_r, t)
    for ours, theirs in zip(own, general, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_written_out_formulas() -> None:
    t = torch.tensor([0.25], dtype=torch.float64)
    linear = INTERPOLANTS.get("linear").coefficients(t)
    assert [c.item() for c in linear] == [0.75, 0.25, -1.0, 1.0]
    angle = math.pi / 8
    trigonometric = INTERPOLANTS.get("trigonometric").coefficients(t)
    assert [c.item() for c in trigonometric] == pytest.approx(
        [
            math.cos(angle),
            math.sin(angle),
            -math.pi / 2 * math.sin(angle),
            math.pi / 2 * math.cos(angle),
        ]
    )


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="trigonometric"):
        INTERPOLANTS.get("trigonometrc")
