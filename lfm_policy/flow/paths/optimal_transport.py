"""The coupling that pairs the two ends within a batch so that paths are short."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow.paths.schedule import OUStep

MOST_ROWS = 1024
"""Rows that are paired together; the time of an assignment grows with their third power."""


@dataclass(frozen=True)
class OptimalCoupling:
    """Optimal transport within a batch, which knows of the condition.

    The dependent x_r (noise in the free block) are put into the order that makes the sum of

        ||x_l - x_r||^2 / mean + condition_weight * ||O - O'||^2 / mean

    smallest over the batch, where O belongs to x_l, O' is the condition of the row that x_r was
    drawn for, and each mean is that over all pairs, so that the weight has no unit. Paths are
    shorter and cross less, so that fewer steps follow them; but x_r is drawn given O only as far as
    O' is near it, and sampling starts from noise that knows nothing of O. The weight says how far
    away O' may be: 0 is plain minibatch optimal transport (Tong et al., arXiv:2302.00482), which
    bends the distribution given O; with a large one rows keep their own x_r, the dependent
    coupling. Without conditions it is plain. Cheng and Schwing, "The Curse of Conditions: Analyzing
    and Improving Optimal Transport for Conditional Flow-Based Generation", arXiv:2503.10636.

    The assignment is computed on the CPU, 1024 rows at a time if there are more.

    Attributes:
        condition_weight: at least 0.

    Raises:
        InputError: the weight is negative or not finite.
    """

    condition_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the weight."""
        if not (math.isfinite(self.condition_weight) and self.condition_weight >= 0):
            raise InputError(
                f"condition_weight of the optimal coupling is {self.condition_weight}; expected a "
                "finite number, at least 0"
            )

    @torch.no_grad()
    def __call__(
        self,
        x_l: Tensor,
        step: OUStep,
        *,
        cond: Tensor | None = None,
        x_other: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the reordered x_r (B, *chunk_shape); see `Coupling`."""
        x_r = step.diffuse(x_l, generator=generator)
        orders = []
        for begin in range(0, len(x_l), MOST_ROWS):
            part = slice(begin, begin + MOST_ROWS)
            cost = _relative_squares(x_l[part], x_r[part])
            if cond is not None and self.condition_weight:
                distances = _relative_squares(cond[part], cond[part])
                cost = cost + self.condition_weight * distances
            # Numbers that are not finite are left to the loss, which says so.
            _, order = linear_sum_assignment(cost.nan_to_num().cpu().numpy())
            orders.append(begin + torch.from_numpy(order))
        return x_r[torch.cat(orders).to(x_r.device)] if orders else x_r


def _relative_squares(a: Tensor, b: Tensor) -> Tensor:
    """Return the square distances of rows (B, ...) over their mean, (B, B) float64; 0 if all are 0.

    In double precision a product of matrices is exact enough, and autocast leaves it alone.
    """
    left, right = (x.double().reshape(len(x), -1) for x in (a, b))
    squares = torch.cdist(left, right).square()
    return squares / squares.mean().clamp(min=torch.finfo(squares.dtype).tiny)


OPTIMAL = OptimalCoupling()
"""What the name `optimal` stands for where no weight is given."""
