"""How much an error counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.flow import FlowBlock, OUStep, VelocityConfig
from lfm_policy.flow.methods.error import chunk_squares, robust

POWERS = [0.3, 0.5, 0.75, 1.0, 1.5, 3.0]


@pytest.mark.parametrize("power", POWERS)
def test_its_gradient_is_that_of_squares_with_the_adaptive_weight(power: float) -> None:
    """sg[1 / (s + c)^p] as in Mean Flows, but for a constant."""
    scale = 0.05
    s = torch.logspace(-8, 2, 60, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(robust(s, scale=scale, power=power).sum(), s)
    weight = (scale**2 / (s.detach() + scale**2)) ** power
    torch.testing.assert_close(gradient, weight)


def test_half_is_pseudo_huber() -> None:
    s, c = torch.logspace(-8, 2, 60, dtype=torch.float64), 0.01
    expected = 2 * c * (torch.sqrt(1 + s / c) - 1)
    torch.testing.assert_close(robust(s, scale=0.1, power=0.5), expected)


@given(
    scale=st.floats(1e-3, 1e3),
    power=st.floats(0.0, 4.0),
    s=st.lists(st.floats(0.0, 1e4), min_size=2, max_size=8),
)
def test_it_grows_and_is_never_more_than_the_square(
    scale: float, power: float, s: list[float]
) -> None:
    squares = torch.tensor(sorted(s), dtype=torch.float64)
    found = robust(squares, scale=scale, power=power)
    assert bool((found <= squares * (1 + 1e-9) + 1e-300).all())
    assert bool((found.diff() >= -1e-9 * found[-1] - 1e-300).all())


def test_small_errors_are_squares_in_single_precision() -> None:
    s = torch.logspace(-12, -8, 20)
    for power in POWERS:
        torch.testing.assert_close(robust(s, scale=1.0, power=power), s, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("scale", "power"), [(0.0, 1.0), (0.3, 0.0)])
def test_squares_alone(scale: float, power: float) -> None:
    s = torch.rand(5)
    assert robust(s, scale=scale, power=power) is s


def test_squares_of_half_precision_are_taken_in_single() -> None:
    difference = torch.full((2, 300), 0.3, dtype=torch.bfloat16)
    squares = chunk_squares(difference)
    assert squares.dtype == torch.float32
    torch.testing.assert_close(squares, difference.float().square().mean(1))


def test_one_chunk_that_nothing_foretells_does_not_outweigh_the_others() -> None:
    """Loss of a block: of four chunks one is far away."""
    x_l = torch.zeros(4, 3, 2)
    x_l[0] = 10.0
    step = OUStep(None)

    def gradients(**values: float) -> torch.Tensor:
        guess = torch.zeros(4, 3, 2, requires_grad=True)
        block = FlowBlock(lambda x, t, cond: guess, step, method=VelocityConfig(**values))
        block.loss(x_l, generator=torch.Generator().manual_seed(0)).backward()
        assert guess.grad is not None
        return guess.grad.flatten(1).norm(dim=1)

    plain, weighted = gradients(), gradients(error_scale=0.5)
    assert float(plain[0]) > 5 * float(plain[1:].max())
    assert float(weighted[0]) < float(weighted[1:].max())
