"""Closed-form velocities for Gaussian data, to be used in place of networks for verification.

For x_l ~ N(mu, Sigma) everything in a block stays Gaussian: I_t ~ N(m_t, C_t), where in the
eigenbasis U of Sigma (eigenvalues lambda) C_t is diagonal. The optimal velocity
E[dI_t/dt | I_t = x] of each coupling is affine,

    v(x, t) = m'_t + U diag(k_t) U^T (x - m_t),   k_t = Cov(dI_t/dt, I_t) / C_t = C'_t / (2 C_t),

and its flow map from t = 0 to t = 1 is T(x) = m_1 + U diag(sqrt(C_1 / C_0)) U^T (x - m_0).
With the interpolant's factors alpha, beta and the step's a = decay, b = noise_std:

    m_t = (alpha + beta a) mu                                  in every coupling,
    C_t = (alpha + beta a)^2 lambda + beta^2 b^2               dependent,
    C_t = alpha^2 lambda + beta^2 (a^2 lambda + b^2)           independent, or free (a = 0, b = 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow.block import FlowBlock
from lfm_policy.flow.choices import COUPLINGS, INTERPOLANTS
from lfm_policy.flow.methods import CleanChunkMethod, VelocityMethod
from lfm_policy.flow.paths.interpolant import Interpolant
from lfm_policy.flow.paths.schedule import OUStep
from lfm_policy.flow.solvers.velocity import Network, per_sample


def push_gaussian(mean: Tensor, cov: Tensor, step: OUStep) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and covariance (D, D) of a N(mean, cov) after ``step``.

    They are a mu and a^2 Sigma + b^2 I.
    """
    identity = torch.eye(mean.numel(), dtype=cov.dtype, device=cov.device)
    return step.decay * mean, step.decay**2 * cov + step.noise_std**2 * identity


class GaussianBlockVelocity:
    """The optimal velocity of a block for x_l ~ N(mean, cov) over a flattened chunk.

    It is a velocity: called with x (B, *chunk_shape) of D entries per sample, t (B,) and a cond
    that it ignores; differentiable in x. The shuffled coupling is treated as the independent one,
    which it becomes for large batches.
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
            InputError: the shapes do not fit, ``cov`` is not symmetric positive definite, or a
                name is unknown.
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
        self._dependent = coupling == "dependent" and not step.is_free
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
        alpha, beta, d_alpha, d_beta = (
            per_sample(c, flat) for c in self._interpolant.coefficients(t)
        )
        a, b, eig = self._step.decay, self._step.noise_std, self._eigenvalues
        s, d_s = alpha + beta * a, d_alpha + d_beta * a
        if self._dependent:
            variance = s**2 * eig + (beta * b) ** 2
            half_derivative = s * d_s * eig + beta * d_beta * b**2
        else:
            end = a**2 * eig + b**2
            variance = alpha**2 * eig + beta**2 * end
            half_derivative = alpha * d_alpha * eig + beta * d_beta * end
        deviation = (flat - s * self._mean) @ self._eigenvectors
        v = d_s * self._mean + (half_derivative / variance * deviation) @ self._eigenvectors.mT
        return v.reshape(x.shape)

    def flow_map(self, x: Tensor) -> Tensor:
        """Return T(x), the exact push-forward of x (B, *chunk_shape) from t = 0 to t = 1."""
        a, b, eig = self._step.decay, self._step.noise_std, self._eigenvalues
        deviation = (x.reshape(x.shape[0], -1) - self._mean) @ self._eigenvectors
        gain = torch.sqrt((a**2 * eig + b**2) / eig)
        return (a * self._mean + (gain * deviation) @ self._eigenvectors.mT).reshape(x.shape)


def gaussian_network(
    block: FlowBlock, mean: Tensor, cov: Tensor, *, coupling: str = "dependent"
) -> Network | None:
    """Return the best answer of a network that does not see the condition, for x_l ~ N(mean, cov).

    Of all networks affine in x it has the smallest loss at every time, whatever the distribution of
    x_l is: the mean square error of an affine predictor depends on mean and covariance alone.

    Args:
        block: says what is asked, and on which path.
        mean: (D,) of the flattened x_l, float64.
        cov: (D, D), symmetric and positive definite.
        coupling: of the block.

    Returns:
        ``f(x, t, cond)`` in the dtype of x; None for a method that asks for anything else than a
        velocity or the clean chunk.

    Raises:
        InputError: as `GaussianBlockVelocity`.
    """
    exact = GaussianBlockVelocity(mean, cov, block.step, block.interpolant, coupling)

    def velocity(x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return exact(x.to(mean), t.to(mean)).to(x)

    def clean_chunk(x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return block.interpolant.data_end(x, velocity(x, t), t)

    if isinstance(block.method, VelocityMethod):
        return velocity
    return clean_chunk if isinstance(block.method, CleanChunkMethod) else None
