"""Gaussian chains whose blocks hold the exact velocities instead of networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lfm_policy.flow import FlowBlock, FlowChain, GaussianBlockVelocity, OUSchedule, push_gaussian


@dataclass
class GaussianChain:
    chain: FlowChain
    schedule: OUSchedule
    marginals: list[tuple[Tensor, Tensor]]
    """Mean (D,) and covariance (D, D) of p_0, ..., p_N by the closed form."""


def _random_gaussian(dimension: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(square)
    eigenvalues = torch.linspace(0.1, 1.8, dimension, dtype=torch.float64)
    mean = torch.randn(dimension, generator=generator, dtype=torch.float64)
    return mean, basis @ torch.diag(eigenvalues) @ basis.mT


def _gaussian_chain(
    dimension: int,
    step_sizes: tuple[float, ...],
    interpolant: str = "linear",
    coupling: str = "dependent",
    seed: int = 0,
) -> GaussianChain:
    schedule = OUSchedule(step_sizes)
    marginals = [_random_gaussian(dimension, seed)]
    blocks = []
    for n in range(1, schedule.n_blocks + 1):
        mean, cov = marginals[-1]
        velocity = GaussianBlockVelocity(mean, cov, schedule.step(n), interpolant, coupling)
        blocks.append(FlowBlock(velocity, schedule.step(n), interpolant, coupling))
        marginals.append(push_gaussian(mean, cov, schedule.step(n)))
    return GaussianChain(FlowChain(blocks), schedule, marginals)


def _push_moments(
    flow: Callable[[Tensor], Tensor], mean: Tensor, cov: Tensor
) -> tuple[Tensor, Tensor]:
    """Push N(mean, cov) through an affine map, which is read off at the mean and the unit steps."""
    probes = torch.cat([mean[None], mean + torch.eye(mean.numel(), dtype=mean.dtype)])
    images = flow(probes)
    matrix = (images[1:] - images[0]).mT
    return images[0], matrix @ cov @ matrix.mT


@pytest.fixture(scope="session")
def gaussian_chain() -> Callable[..., GaussianChain]:
    """Return the factory (dimension, step_sizes, interpolant, coupling, seed) -> chain."""
    return _gaussian_chain


@pytest.fixture(scope="session")
def push_moments() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the exact push-forward of a Gaussian's moments through an affine map."""
    return _push_moments
