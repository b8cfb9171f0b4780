"""The exponential moving average (EMA) of weights, which is what is kept of a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lfm_policy.flow.solvers.velocity import Network


class EMA:
    """The EMA of parameters over the steps; the newest have weight 1 - decay.

    The decay grows with the steps, 1 - (1 + k)^-power up to a largest one, so that the first
    weights are soon forgotten (the warm-up of Katherine Crowson's, in diffusers' `EMAModel`).

    Attributes:
        weights: the EMA, one tensor for each parameter.
        steps: updates so far.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, decay: float, power: float) -> None:
        """Begin with the parameters as they are.

        Args:
            parameters: whose EMA it is.
            decay: largest decay.
            power: how fast it grows.
        """
        self._parameters: tuple[Tensor, ...] = tuple(parameters)
        self._decay = decay
        self._power = power
        self.weights = [parameter.clone().detach() for parameter in parameters]
        self.steps = 0

    def update(self) -> None:
        """Take the parameters of one more step into the EMA."""
        # torch's update goes through the weights once, diffusers' three times.
        update = get_ema_multi_avg_fn(self.next_decay())
        update(tuple(self.weights), self._parameters, self.steps)

    def next_decay(self) -> float:
        """Count one more step, and return the decay with which it enters the EMA."""
        self.steps += 1
        return self._decay_now()

    @torch.no_grad()
    def update_with(self, decay: Tensor) -> None:
        """Take the parameters into the EMA with a decay, a scalar, that may be on a GPU."""
        changes = torch._foreach_sub(self._parameters, self.weights)
        torch._foreach_mul_(changes, 1 - decay)
        torch._foreach_add_(self.weights, changes)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Give the parameters the EMA weights."""
        torch._foreach_copy_(self._parameters, self.weights)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the parameters the EMA weights for a while."""
        own = [parameter.detach().clone() for parameter in self._parameters]
        self.copy_to_parameters()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._parameters, own)

    @torch.no_grad()
    def load(self, weights: Sequence[Tensor], steps: int) -> None:
        """Take an EMA that was made before, one tensor for each parameter."""
        torch._foreach_copy_(self.weights, list(weights))
        self.steps = steps

    def _decay_now(self) -> float:
        if self.steps <= 1:
            return 0.0
        return min(1 - float(self.steps) ** -self._power, self._decay)


def averaged(network: nn.Module, weights: Mapping[str, Tensor]) -> Network:
    """Return a network with other weights than its own, such as their EMA, without gradients.

    Args:
        network: asked in the mode, of training or evaluation, that it is in.
        weights: by the names of its parameters; as they are whenever it is asked.
    """

    def average(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        with torch.no_grad():
            answer: Tensor = functional_call(network, dict(weights), (x, t, cond))
        return answer

    return average
