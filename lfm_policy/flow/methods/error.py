"""How much an error counts: its square, or less where it is large."""

from __future__ import annotations

import torch
from torch import Tensor

PSEUDO_HUBER = 0.5
"""The power of `robust` with which large errors count as themselves."""


def robust(squares: Tensor, *, scale: float, power: float) -> Tensor:
    """Return what mean square errors s count for: s itself where it is small, less where it is not.

    With c = ``scale`` ^ 2 and p = ``power`` it is

        phi(s) = c ((1 + s / c)^(1 - p) - 1) / (1 - p),    c log(1 + s / c) for p = 1,

    whose derivative is (1 + s / c)^-p. So its gradient is that of s with the weight
    sg[c^p / (s + c)^p], which is the adaptive weight of Geng et al., "Mean Flows for One-step
    Generative Modeling", arXiv:2505.13447, but for the constant c^p; p = 1/2 is the pseudo-Huber
    loss 2 c (sqrt(1 + s / c) - 1) of Song and Dhariwal, arXiv:2310.14189.

    Args:
        squares: (...), at least 0.
        scale: root of c, in the unit of the error; 0: s itself.
        power: p, at least 0.
    """
    if not scale or not power:
        return squares
    c = scale * scale
    # log1p and expm1: not ((1 + s / c)^q - 1), which loses small s to rounding.
    log = torch.log1p(squares / c)
    if power == 1:
        return c * log
    return c * torch.expm1((1 - power) * log) / (1 - power)


def chunk_squares(difference: Tensor) -> Tensor:
    """Return the mean square (B,) of each chunk of ``difference`` (B, *chunk_shape), in float32.

    Half precision has too few digits for a mean of squares; double precision is kept.
    """
    if difference.dtype in (torch.float16, torch.bfloat16):
        difference = difference.float()
    return difference.square().reshape(len(difference), -1).mean(1)
