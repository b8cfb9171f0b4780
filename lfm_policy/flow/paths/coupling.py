"""How the noise-side end x_r of a training pair is drawn for a given data-side end x_l.

Every coupling gives x_r the same distribution p_n = law of decay * x_l + noise_std * z over a
batch; they differ in how x_r depends on x_l. In the free block all of this file are x_r = z; see
also `optimal_transport`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from lfm_policy.flow.paths.schedule import OUStep


class Coupling(Protocol):
    """Draws x_r (B, *chunk_shape) for x_l (B, *chunk_shape) with cond (B, cond_dim) or None."""

    def __call__(
        self,
        x_l: Tensor,
        step: OUStep,
        *,
        cond: Tensor | None = None,
        x_other: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return x_r; noise from ``generator``, or from torch's global one."""


def dependent(
    x_l: Tensor,
    step: OUStep,
    *,
    cond: Tensor | None = None,
    x_other: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return decay * x_l + noise_std * z: the pair is one path of the diffusion (the paper's)."""
    return step.diffuse(x_l, generator=generator)


def shuffled(
    x_l: Tensor,
    step: OUStep,
    *,
    cond: Tensor | None = None,
    x_other: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the dependent x_r in a random order over the batch.

    With observations, x_r then belongs to another sample's observation: the block maps
    p_{n-1}(. | O) to the p_n of all observations together. A chain trained on pushed-forward
    samples stays exact, because the next block learns from what this one really produces; with
    exact OU marginals in place of the push-forward it does not.
    """
    x_r = step.diffuse(x_l, generator=generator)
    if step.is_free:  # z is exchangeable already
        return x_r
    order = torch.randperm(x_r.shape[0], generator=generator, device=x_r.device)
    return x_r[order]


def independent(
    x_l: Tensor,
    step: OUStep,
    *,
    cond: Tensor | None = None,
    x_other: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return decay * x_other + noise_std * z, with ``x_other`` a second batch like ``x_l``.

    ``x_other`` has to come from the distribution of ``x_l``, independently of it; what
    :func:`shuffled` says about observations holds here too. The free block does not need it.

    Raises:
        ValueError: ``x_other`` is missing or has another shape than ``x_l``.
    """
    if step.is_free:
        return step.diffuse(x_l, generator=generator)
    if x_other is None or x_other.shape != x_l.shape:
        found = "no x_other" if x_other is None else f"x_other of shape {tuple(x_other.shape)}"
        raise ValueError(
            "the independent coupling needs a second, independent batch x_other of shape "
            f"{tuple(x_l.shape)}; got {found}"
        )
    return step.diffuse(x_other, generator=generator)
