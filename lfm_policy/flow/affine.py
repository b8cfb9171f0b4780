"""Closed-form velocities for Gaussian data, to be used in place of networks for verification.

For x_l ~ N(mu, Sigma) everything in a block stays Gaussian: I_t ~ N(m_t, C_t), where in the
eigenbasis U of Sigma (eigenvalues lambda) C_t is diagonal. The optimal velocity
E[dI_t/dt | I_t = x] of each coupling is affine,

    v(x, t) = m'_t + U diag(k_t) U^T (x - m_t),   k_t = Cov(dI_t/dt, I_t) / C_t = C'_t / (2 C_t),

and its flow map from t to s is X(x) = m_s + U diag(sqrt(C_s / C_t)) U^T (x - m_t).
With the interpolant's factors alpha, beta, the step's a = decay, b = noise_std (0 and 1 in the
free block), the end's variances r = a^2 lambda + b^2 and the covariances kappa of the two ends:

    m_t = (alpha + beta a) mu                                  in every coupling,
    C_t = alpha^2 lambda + 2 alpha beta kappa + beta^2 r,
    kappa = a lambda (dependent), 0 (independent), sqrt(lambda r) (optimal transport).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow.block import FlowBlock
from lfm_policy.flow.choices import COUPLINGS, INTERPOLANTS
from lfm_policy.flow.methods import (
    CleanChunkMethod,
    DiffusionMethod,
    MeanVelocityMethod,
    VelocityMethod,
)
from lfm_policy.flow.paths.interpolant import Interpolant
from lfm_policy.flow.paths.schedule import OUStep
from lfm_policy.flow.solvers.velocity import Network, per_sample


def push_gaussian(mean: Tensor, cov: Tensor, step: OUStep) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D) of a N(mean, cov) after ``step``.

    They are a mu and a^2 Sigma + b^2 I.
    """
    identity = torch.eye(mean.numel(), dtype=cov.dtype, device=cov.device)
    return step.decay * mean, step.decay**2 * cov + step.noise_std**2 * identity


class _Moments(NamedTuple):
    """m_t over mu and its derivative, (B, 1); C_t and half of its derivative, (B, D)."""

    scale: Tensor
    d_scale: Tensor
    variance: Tensor
    half_derivative: Tensor


class GaussianBlockVelocity:
    """The optimal velocity of a block for x_l ~ N(mean, cov) over a flattened chunk.

    It is a velocity: called with x (B, *chunk_shape) of D entries per sample, t (B,) and a cond
    that it ignores; differentiable in x. The shuffled coupling is treated as the independent one,
    and the optimal one as the optimal transport from N(mean, cov) to its end: that is what they
    become for large batches, the latter without conditions.
    """

    def __init__(
        self,
        mean: Tensor,
        cov: Tensor,
        step: OUStep,
        interpolant: Interpolant | str = "linear",
        coupling: str = "dependent",
    ) -> None:
        """Build the velocity for mean (D,) and cov (D, D), in their dtype and on their device.

        Raises:
            InputError: the shapes do not fit, ``cov`` is not symmetric positive definite, a name
                is unknown, or nothing is known of the coupling, which is a plugin's.
        """
        dimension = mean.numel()
        if mean.ndim != 1 or cov.shape != (dimension, dimension):
            raise InputError(
                f"mean has shape {tuple(mean.shape)} and cov {tuple(cov.shape)}; "
                "expected (D,) and (D, D)"
            )
        eigenvalues, eigenvectors = torch.linalg.eigh(cov)
        if not torch.allclose(cov, cov.mT) or eigenvalues[0] <= 0:
            raise InputError("cov has to be symmetric and positive definite")
        COUPLINGS.get(coupling)
        end = step.decay**2 * eigenvalues + step.noise_std**2
        covariances = {
            "dependent": step.decay * eigenvalues,
            "shuffled": torch.zeros_like(end),
            "independent": torch.zeros_like(end),
            "optimal": torch.sqrt(eigenvalues * end),
        }
        if coupling not in covariances:
            raise InputError(
                f"the coupling '{coupling}' has no closed form; known are those of "
                f"{', '.join(covariances)}"
            )
        self._end, self._covariance = end, covariances[coupling]
        self._interpolant = (
            INTERPOLANTS.get(interpolant) if isinstance(interpolant, str) else interpolant
        )
        self._step = step
        self._mean = mean
        self._eigenvalues = eigenvalues
        self._eigenvectors = eigenvectors

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return v(x, t), shape of ``x``."""
        flat = x.reshape(x.shape[0], -1)
        at = self._moments(t, flat)
        deviation = (flat - at.scale * self._mean) @ self._eigenvectors
        gain = at.half_derivative / at.variance
        v = at.d_scale * self._mean + (gain * deviation) @ self._eigenvectors.mT
        return v.reshape(x.shape)

    def flow_map(self, x: Tensor, t: Tensor | None = None, s: Tensor | None = None) -> Tensor:
        """Return X_{t->s}(x), exact, shape of x (B, *chunk_shape).

        Args:
            x: points at the times ``t``.
            t: (B,); None: all 0.
            s: (B,), before or after t; None: all 1.
        """
        flat = x.reshape(x.shape[0], -1)
        begin = self._moments(flat.new_zeros(len(flat)) if t is None else t, flat)
        end = self._moments(flat.new_ones(len(flat)) if s is None else s, flat)
        deviation = (flat - begin.scale * self._mean) @ self._eigenvectors
        gain = torch.sqrt(end.variance / begin.variance)
        mapped = end.scale * self._mean + (gain * deviation) @ self._eigenvectors.mT
        return mapped.reshape(x.shape)

    def mean_velocity(self, x: Tensor, times: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return u(x, t, s) = (x - X_{t->s}(x)) / (t - s), and v(x, t) where s = t.

        A network of two times: ``times`` (B, 2) are t and s, ``cond`` is ignored. Differentiable in
        x, t and s where s is not t.
        """
        t, s = times.unbind(1)
        length = per_sample(t - s, x)
        still = length == 0
        mean = (x - self.flow_map(x, t, s)) / torch.where(still, torch.ones_like(length), length)
        return torch.where(still, self(x, t), mean)

    def _moments(self, t: Tensor, flat: Tensor) -> _Moments:
        """Return mean and variances at times t (B,), to be multiplied with (B, D)."""
        alpha, beta, d_alpha, d_beta = (
            per_sample(c, flat) for c in self._interpolant.coefficients(t)
        )
        a, eig, cov, end = self._step.decay, self._eigenvalues, self._covariance, self._end
        scale, d_scale = alpha + beta * a, d_alpha + d_beta * a
        variance = alpha**2 * eig + 2 * alpha * beta * cov + beta**2 * end
        mixed = (alpha * d_beta + d_alpha * beta) * cov
        half_derivative = alpha * d_alpha * eig + mixed + beta * d_beta * end
        return _Moments(scale, d_scale, variance, half_derivative)


def gaussian_network(
    block: FlowBlock, mean: Tensor, cov: Tensor, *, coupling: str = "dependent"
) -> Network | None:
    """Return the best answer of a network that does not see the condition, for x_l ~ N(mean, cov).

    Of all networks affine in x it has the smallest loss at every time, whatever the distribution of
    x_l is: the mean square error of an affine predictor depends on mean and covariance alone.
    Where the network is the mean velocity of steps, this is so of the pairs with s = t; its steps
    are those of that velocity, exact, which is affine too.

    Args:
        block: says what is asked, and on which path.
        mean: (D,) of the flattened x_l, float64.
        cov: (D, D), symmetric and positive definite.
        coupling: of the block.

    Returns:
        ``f(x, t, cond)`` in the dtype of x; None for a method that asks for anything else than a
        velocity, a mean velocity, the clean chunk or the prediction of a diffusion model, and for a
        coupling whose pairs are not known from mean and covariance alone: those of the optimal one
        depend on the batch and on the conditions.

    Raises:
        InputError: as `GaussianBlockVelocity`.
    """
    if coupling not in ("dependent", "shuffled", "independent"):
        return None
    exact = GaussianBlockVelocity(mean, cov, block.step, block.interpolant, coupling)

    def velocity(x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return exact(x.to(mean), t.to(mean)).to(x)

    def clean_chunk(x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return block.interpolant.data_end(x, velocity(x, t), t)

    def mean_velocity(x: Tensor, times: Tensor, cond: Tensor | None = None) -> Tensor:
        return exact.mean_velocity(x.to(mean), times.to(mean)).to(x)

    if isinstance(block.method, VelocityMethod):
        return velocity
    if isinstance(block.method, MeanVelocityMethod):
        return mean_velocity
    if isinstance(block.method, DiffusionMethod):
        return block.method.network_of(exact, mean.dtype)
    return clean_chunk if isinstance(block.method, CleanChunkMethod) else None
