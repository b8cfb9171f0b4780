"""The whole of Algorithm 1 on density estimation: train, push forward, evaluate the likelihood."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    OUSchedule,
    SolverSpec,
    geometric_step_sizes,
    log_prob,
)

pytestmark = pytest.mark.slow

N_BLOCKS, N_STEPS, BATCH = 3, 1500, 512
N_DATA, N_TEST = 100_000, 10_000
MARGIN = 0.05
"""Nats between the chain's negative log-likelihood and the entropy of the mixture."""


class _Net(nn.Module):
    """9,000 parameters: x and five features of t through three hidden layers of 64."""

    def __init__(self) -> None:
        super().__init__()
        widths = (2 + 5, 64, 64, 64)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Linear(64, 2))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        angle = torch.pi * t
        waves = [angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()]
        return self.net(torch.cat([x, torch.stack([t, *waves], dim=1)], dim=1))


def _mixture() -> MixtureSameFamily:
    """Five Gaussians of standard deviation 0.3 on a circle of radius 1.2, weights 1 to 2."""
    angles = torch.arange(5) * 2 * torch.pi / 5
    centres = 1.2 * torch.stack([angles.cos(), angles.sin()], dim=1)
    return MixtureSameFamily(
        Categorical(torch.linspace(1, 2, 5)),
        Independent(Normal(centres, torch.full((5, 2), 0.3)), 1),
    )


def _train(block: FlowBlock, net: nn.Module, x: Tensor) -> None:
    """Regress in place: AdamW with a cosine schedule; the final weights are the EMA ones."""
    ema = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_STEPS)
    for i in range(N_STEPS):
        loss = block.loss(x[torch.randint(x.shape[0], (BATCH,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if i % 5 == 0:
            with torch.no_grad():
                torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 0.01)
    net.load_state_dict(ema.state_dict())


@pytest.fixture(scope="module")
def trained() -> FlowChain:
    torch.manual_seed(0)
    schedule = OUSchedule(geometric_step_sizes(N_BLOCKS, c=0.05, rho=1.5))
    push = SolverSpec("dopri5", rtol=1e-4, atol=1e-4)
    x = _mixture().sample((N_DATA,))
    net, blocks = _Net(), []
    for n in range(1, N_BLOCKS + 1):
        block = FlowBlock(net, schedule.step(n))
        _train(block, net, x)
        blocks.append(block)
        with torch.no_grad():
            x = FlowChain(blocks).push_forward(x, solver=push, first=n).x
        net = copy.deepcopy(net)  # warm start of the next block
    return FlowChain(blocks)


def test_likelihood_comes_close_to_the_entropy(trained: FlowChain) -> None:
    torch.manual_seed(1)
    mixture = _mixture()
    entropy = -mixture.log_prob(mixture.sample((1_000_000,))).mean().item()
    x = mixture.sample((N_TEST,))
    result = log_prob(trained, x, solver=SolverSpec("dopri5", rtol=1e-5, atol=1e-5))
    gaps = mixture.log_prob(x) - result.log_prob
    # The same draws on both sides: the mean gap estimates KL(data || model), standard error 0.002.
    assert -0.01 < gaps.mean().item() < MARGIN
    assert abs(-result.log_prob.mean().item() - entropy) < MARGIN + 0.02  # error of 10,000 draws


def test_samples_look_like_the_data(trained: FlowChain) -> None:
    """Each mode receives its share of the samples, and they are near the modes."""
    torch.manual_seed(2)
    mixture = _mixture()
    with torch.inference_mode():
        x = trained.sample(torch.randn(20_000, 2), solver=SolverSpec("midpoint", 20)).x
    weights = mixture.mixture_distribution.probs
    centres = mixture.component_distribution.mean
    distance, nearest = torch.cdist(x, centres).min(dim=1)
    data_distance, data_nearest = torch.cdist(mixture.sample((20_000,)), centres).min(dim=1)
    shares = torch.bincount(nearest, minlength=len(weights)) / len(x)
    data_shares = torch.bincount(data_nearest, minlength=len(weights)) / len(x)
    torch.testing.assert_close(shares, data_shares, atol=0.03, rtol=0)
    assert distance.mean().item() == pytest.approx(data_distance.mean().item(), abs=0.04)
