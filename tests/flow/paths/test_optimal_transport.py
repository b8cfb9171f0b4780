"""Pairs of a batch against closed forms of optimal transport."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow import FlowBlock, OptimalCoupling, OUStep
from lfm_policy.flow.paths.coupling import dependent

STEPS = [OUStep(0.01), OUStep(0.7), OUStep(None)]


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(x: Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row.tolist()) for row in x.flatten(1))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", [(1, 3), (2, 4, 2), (40, 16, 2), (17, 1), (1500, 2), (0, 3)])
@pytest.mark.parametrize("weight", [0.0, 1.0, 1e9])
def test_it_reorders_what_the_dependent_coupling_draws(
    step: OUStep, shape: tuple[int, ...], weight: float
) -> None:
    x_l, cond = torch.randn(shape), torch.randn(shape[0], 5)
    own = dependent(x_l, step, generator=_seeded())
    pairs = OptimalCoupling(weight)(x_l, step, cond=cond, generator=_seeded())
    assert pairs.dtype == x_l.dtype
    assert _rows(pairs) == _rows(own)
    assert (x_l - pairs).square().sum() <= (x_l - own).square().sum() + 1e-4


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("cond", [None, torch.ones(64, 3)], ids=["none", "all the same"])
def test_one_dimension_is_sorted(step: OUStep, cond: Tensor | None) -> None:
    x_l = 3 + torch.randn(64, 1, dtype=torch.float64)
    x_r = OptimalCoupling()(x_l, step, cond=cond, generator=_seeded())
    assert torch.equal(x_l.argsort(0), x_r.argsort(0))


@pytest.mark.parametrize("step", STEPS)
def test_a_large_weight_leaves_every_row_its_own(step: OUStep) -> None:
    x_l, cond = torch.randn(100, 4, 2), torch.randn(100, 3)
    own = dependent(x_l, step, generator=_seeded())
    assert torch.equal(OptimalCoupling(1e6)(x_l, step, cond=cond, generator=_seeded()), own)


def test_equal_conditions_are_exchanged_and_no_others() -> None:
    """Groups of one condition are each sorted, whatever the unit of the condition is."""
    group = torch.arange(60) % 3
    x_l, cond = torch.randn(60, 1), torch.eye(3)[group] * 1e-3
    own = dependent(x_l, OUStep(None), generator=_seeded())
    x_r = OptimalCoupling(1e4)(x_l, OUStep(None), cond=cond, generator=_seeded())
    for k in range(3):
        of_group = group == k
        assert _rows(x_r[of_group]) == _rows(own[of_group])
        assert torch.equal(x_l[of_group].argsort(0), x_r[of_group].argsort(0))


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.mT


@pytest.mark.parametrize("weight", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("step", [OUStep(0.7), OUStep(None)])
def test_pairs_of_a_normal_distribution_are_those_of_its_transport(
    step: OUStep, weight: float
) -> None:
    """With weights w, (x_l, w O) ~ N(0, A) goes to (x_r, w O') ~ N(0, B) with Cov = A T.

    T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2) is the transport between normal distributions.
    """
    std, slope, a, b = 0.8, 0.9, step.decay, step.noise_std
    variance = std**2 + slope**2
    pairs = []
    for seed in range(24):
        generator = _seeded(seed)
        cond = torch.randn(512, 1, generator=generator, dtype=torch.float64)
        noise = torch.randn(512, 1, generator=generator, dtype=torch.float64)
        x_l = slope * cond + std * noise
        x_r = OptimalCoupling(weight)(x_l, step, cond=cond, generator=generator)
        pairs.append(torch.cat([x_l, cond, x_r], dim=1))
    found = torch.cov(torch.cat(pairs).mT)
    end = a**2 * variance + b**2
    ends = math.sqrt(variance + end)  # root of the mean of |x_l - x_r|^2 over all pairs
    scale = torch.tensor([1 / ends, math.sqrt(max(weight, 1e-12) / 2)], dtype=torch.float64)
    data = torch.tensor([[variance, slope], [slope, 1.0]], dtype=torch.float64)
    noisy = torch.tensor([[end, a * slope], [a * slope, 1.0]], dtype=torch.float64)
    root = _root(scale[:, None] * data * scale)
    middle = _root(root @ (scale[:, None] * noisy * scale) @ root)
    crossed = root @ middle @ torch.linalg.inv(root) / scale[:, None] / scale
    torch.testing.assert_close(found[:2, 2], crossed[:, 0], atol=0.06, rtol=0)
    torch.testing.assert_close(found[2, 2], torch.tensor(end).double(), atol=0.06, rtol=0)


def test_a_block_gives_its_coupling_the_condition() -> None:
    """Noise that belongs to an observation stays with it, or with one near to it."""
    x_l, cond = torch.randn(200, 3), torch.randn(200, 2)
    means = []
    for weight in (0.0, 1.0, 1e6):
        block = FlowBlock(lambda x, t, cond: x, OUStep(None), coupling=OptimalCoupling(weight))
        own = torch.randn(200, 3, generator=_seeded())
        x_r = block.path_sample(x_l, cond, generator=_seeded()).x_r
        order = torch.cdist(x_r, own).argmin(1)
        means.append(float((cond - cond[order]).square().mean()))
        assert block.noise_end(x_l, cond, generator=_seeded()).equal(x_r)
    assert means[0] > 3 * means[1] > 0 == means[2]


def test_numbers_that_are_not_finite_are_left_to_the_loss() -> None:
    x_l = torch.full((4, 2), math.nan)
    block = FlowBlock(lambda x, t, cond: x, OUStep(0.1), coupling="optimal")
    assert block.loss(x_l, torch.full((4, 1), math.nan)).isnan()


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_bad_weights(weight: float) -> None:
    with pytest.raises(InputError, match="condition_weight"):
        OptimalCoupling(weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_no_gradient_and_the_dtype_of_the_data(dtype: torch.dtype) -> None:
    x_l = torch.randn(8, 3, dtype=dtype)
    cond = torch.randn(8, 2, dtype=dtype, requires_grad=True)
    x_r = OptimalCoupling()(x_l, OUStep(0.1), cond=cond)
    assert x_r.dtype == dtype and not x_r.requires_grad
