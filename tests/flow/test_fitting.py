"""A chain trained on plain tensors: a library of its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    OUSchedule,
    SolverSpec,
    fit,
    log_prob,
)

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """A small network on points of the plane, with a condition of one number or none."""

    def __init__(self, cond_dim: int = 0) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3 + cond_dim, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 2)
        )

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        parts = [x, t[:, None], *([] if cond is None else [cond])]
        return self.net(torch.cat(parts, dim=1))


def chain_of(n_blocks: int, cond_dim: int = 0) -> FlowChain:
    torch.manual_seed(0)
    schedule = OUSchedule((0.15,) * (n_blocks - 1))
    return FlowChain([FlowBlock(Net(cond_dim), schedule.step(n)) for n in range(1, n_blocks + 1)])


def ring(n: int, seed: int) -> Tensor:
    """Return n points on a noisy circle of radius 1.2."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    circle = 1.2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    return circle + 0.1 * torch.randn(n, 2, generator=generator)


def test_it_learns_a_density() -> None:
    chain = chain_of(2)
    result = fit(chain, ring(4000, 0), steps=400, batch_size=256, learning_rate=3e-3)
    assert result.losses.shape == (2, 400) and bool(torch.isfinite(result.losses).all())
    assert result.push_nfe == (16,)
    test = ring(300, 1)
    found = log_prob(chain, test, solver=SolverSpec("heun", 10)).log_prob.mean()
    # The ring's own entropy is about 2.36 nats; a Gaussian of its covariance has 3.2.
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2), ring(4000, 0).T.cov())
    assert float(found) > float(gaussian.log_prob(test).mean()) + 0.3
    samples = chain.sample(torch.randn(500, 2), solver=SolverSpec("heun", 8)).x
    assert float((samples.norm(dim=1) - 1.2).abs().median()) < 0.2


def test_the_seed_decides_everything() -> None:
    x, cond = ring(200, 0), torch.rand(200, 1)
    weights = []
    for seed in (0, 0, 1):
        chain = chain_of(2, cond_dim=1)
        fit(chain, x, cond, steps=5, batch_size=16, seed=seed)
        weights.append(torch.cat([p.flatten() for p in chain.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_later_block_starts_from_the_one_before_and_learns_from_its_push_forward() -> None:
    x = ring(100, 0)
    chain = chain_of(2)
    before = [p.clone() for p in chain.block(2).parameters()]
    fit(chain, x, steps=1, batch_size=8, learning_rate=1e-9)
    for first, second in zip(chain.block(1).parameters(), chain.block(2).parameters(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    chain = chain_of(2)
    fit(chain, x, steps=1, batch_size=8, learning_rate=1e-9, warm_start=False)
    for was, now in zip(before, chain.block(2).parameters(), strict=True):
        torch.testing.assert_close(was, now, atol=1e-6, rtol=0)


def test_bad_data() -> None:
    chain = chain_of(1)
    with pytest.raises(ValueError, match=r"x has shape \(0, 2\)"):
        fit(chain, torch.zeros(0, 2), steps=1)
    with pytest.raises(ValueError, match="all finite"):
        fit(chain, torch.full((3, 2), float("nan")), steps=1)
    with pytest.raises(ValueError, match="cond has 2 rows, x has 3"):
        fit(chain, torch.zeros(3, 2), torch.zeros(2, 1), steps=1)
    with pytest.raises(FloatingPointError, match=r"the loss of block 1 is not finite at step"):
        fit(chain, torch.full((3, 2), 1e30), steps=3)
