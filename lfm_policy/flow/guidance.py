"""Guided flows: a network that can also be told nothing, and what follows from both answers.

Zheng et al., "Guided Flows for Generative Modeling and Decision Making", arXiv:2311.13443, after
the classifier-free guidance of Ho and Salimans, arXiv:2207.12598.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

GUIDED_EVALUATIONS = 2
"""Evaluations of a network that one guided answer takes: with the condition, and without it."""

FAR = 3.0
"""Size of the entries of a learned vector at the start, whose signs are random.

Observations are normalised to about -1 to 1, and a vector among them is taken for one of them: of
two trainings with one number that started from N(0, 1) one had 20 times the error without an
observation of those that started here, of two with three numbers both had 5 to 15 times that.
"""


class OptionalCondition(nn.Module):
    """A network whose condition may be left out; a learned vector stands in for it then.

    It is asked as the network itself is. In training mode `dropped` leaves the condition of some
    rows out, so that one network learns p(x | O) and p(x) alike.

    Attributes:
        network: what is asked.
        none: (size,), the learned vector.
        share: of the rows of a batch, how many learn without their condition, on average.
    """

    def __init__(self, network: nn.Module, size: int, share: float = 0.1) -> None:
        """Wrap a network, and draw the vector from torch's global random numbers.

        Args:
            network: ``f(x, t, cond)``.
            size: how many numbers of a condition are left out, the first of it; what stands behind
                them, such as actions that are decided already, is always told.
            share: 0 to 1.

        Raises:
            ValueError: there is nothing to leave out, or the share is outside of 0 to 1.
        """
        super().__init__()
        if size < 1 or not 0 <= share <= 1:
            raise ValueError(
                f"size is {size} and share {share}; expected at least 1, and a number from 0 to 1"
            )
        self.network = network
        self.none = nn.Parameter(FAR * (2.0 * torch.randint(2, (size,)) - 1.0))
        self.share = share
        self.n_times = getattr(network, "n_times", 1)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return what the network says."""
        answer: Tensor = self.network(x, t, cond)
        return answer

    def left_out(self, cond: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return a condition (B, cond_dim) without what may be left out of it.

        Args:
            cond: (B, cond_dim).
            rows: (B,), true for the rows that lose it; None: all.

        Raises:
            ValueError: it is shorter than the learned vector.
        """
        size = len(self.none)
        if cond.ndim != 2 or cond.shape[1] < size:
            raise ValueError(
                f"cond has shape {tuple(cond.shape)}; expected (B, at least {size}), of which "
                f"{size} can be left out"
            )
        told, always = cond[:, :size], cond[:, size:]
        none = self.none.to(cond.dtype).expand_as(told)
        if rows is not None:
            none = torch.where(rows[:, None], none, told)
        return torch.cat([none, always], dim=1)

    def dropped(self, cond: Tensor | None, generator: torch.Generator | None) -> Tensor | None:
        """Return the condition of a batch without that of random rows, in training mode alone.

        Args:
            cond: (B, cond_dim).
            generator: of the rows; torch's global one when None.

        Raises:
            ValueError: as `left_out`.
        """
        if not self.training or cond is None:
            return cond
        drawn = torch.rand(len(cond), generator=generator, device=cond.device)
        return self.left_out(cond, drawn < self.share)


class GuidedNetwork(nn.Module):
    """The answer (1 - w) f(x, t, none) + w f(x, t, O) of a network f with an `OptionalCondition`.

    With w > 1 it goes further away from what is done without looking, in the direction of what the
    observation asks for. As both weights make 1 together, it does not matter whether f is a
    velocity, the clean chunk or the noise: each is an affine function of the others at given x and
    t. Mean velocities are combined as they are, and so are the steps that they make.

    Both answers come from one call with twice the rows, which counts as `GUIDED_EVALUATIONS` and
    takes less time than two calls. Unless w = 1, what is sampled is not p(x | O), from which blocks
    learn: losses, likelihoods and the push-forward between blocks are of the network itself.

    Attributes:
        network: f.
        weight: w.
    """

    def __init__(self, network: OptionalCondition, weight: float) -> None:
        """Wrap a network; it is not copied.

        Raises:
            ValueError: it has not learned to answer without a condition.
        """
        super().__init__()
        if not isinstance(network, OptionalCondition):
            raise ValueError(
                f"a network of type {type(network).__name__} has not learned to do without its "
                "condition; expected an OptionalCondition"
            )
        self.network = network
        self.weight = weight
        self.n_times = network.n_times

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return the combination, shape of ``x``.

        Raises:
            ValueError: there is no condition.
        """
        if cond is None:
            raise ValueError("cond is None; guidance is towards a condition")
        none = self.network.left_out(cond)
        both = self.network(torch.cat([x, x]), torch.cat([t, t]), torch.cat([none, cond]))
        without, told = both.reshape(GUIDED_EVALUATIONS, *x.shape)
        return without + self.weight * (told - without)


def guided(network: Any, weight: float) -> nn.Module:
    """Return the network itself for the weight 1, and a `GuidedNetwork` for any other.

    Raises:
        ValueError: as `GuidedNetwork`.
    """
    return network if weight == 1 else GuidedNetwork(network, weight)


def plain_network(network: Any) -> Any:
    """Return the network inside, without what guidance adds to it."""
    while isinstance(network, (OptionalCondition, GuidedNetwork)):
        network = network.network
    return network


def evaluations_per_step(weight: float) -> int:
    """Return the evaluations of a network that take the place of each without guidance."""
    return 1 if weight == 1 else GUIDED_EVALUATIONS
