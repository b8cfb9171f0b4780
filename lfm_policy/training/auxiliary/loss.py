"""The loss of an encoder that has to tell more than the actions need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lfm_policy.config.auxiliary import AuxiliaryConfig
from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.flow.methods.error import PSEUDO_HUBER, robust
from lfm_policy.training.auxiliary.targets import Targets
from lfm_policy.training.rows.chunks import Condition
from lfm_policy.training.seeds import AUXILIARY_WEIGHTS, derived_seed
from lfm_policy.training.trainer import Loss

HEAD = "auxiliary"
"""What the names of the head's weights begin with."""


class EncodingLoss(Loss):
    """A loss of actions, from observations that it encodes or from their encoding."""

    encoder: ObsEncoder
    _encode: Callable[[dict[str, Tensor]], Tensor | None]
    """The encoder, perhaps compiled."""

    def encode(self, condition: Condition) -> Tensor | None:
        """Return the encoding (B, cond_dim) of observations; what is encoded already is it."""
        return self._encode(condition) if isinstance(condition, dict) else condition


class AuxiliaryLoss(Loss):
    """A loss of actions, and the error with which the encoding tells the targets.

    With the encoding c of a batch, a head h and the normalised targets y of its history,

        loss(actions | c) + weight * mean over the batch of phi(s),  s = mean of (h(c) - y)^2,

    where s is the mean over targets of the mean over their numbers, so that all count alike,
    whatever their size; phi is the identity, or pseudo-Huber (`robust`).

    The head is for the training alone: a policy has none of its weights. Its last layer begins
    with zeros, so that it does not pull at an encoder that has learnt before.
    """

    def __init__(
        self,
        actions: EncodingLoss,
        targets: Targets,
        options: AuxiliaryConfig,
        *,
        seed: int,
    ) -> None:
        """Draw the weights of the head, which depend on nothing but the seed.

        Args:
            actions: the loss without targets.
            targets: of the demonstrations.
            options: size of the head and how the error counts.
            seed: of the weights.
        """
        super().__init__()
        encoder, device = actions.encoder, targets.values.device
        n_steps, sizes = encoder.n_obs_steps, targets.sizes
        self.actions = actions
        self.same_work = actions.same_work
        self._weight, self._scale = options.weight, options.error_scale
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(derived_seed(seed, AUXILIARY_WEIGHTS))
            head = _head(encoder.cond_dim, options.hidden, n_steps * sum(sizes.values()))
        self.head = head.to(device)
        self._targets = targets
        # Rows, their loss, their error, and of each target the error, normalised and in its unit:
        # sums for training and validation, in tensors, so that nothing waits for the device.
        self._sums = torch.zeros(2, 3 + 2 * len(sizes), device=device)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the actions' loss, and of the head."""
        head = {f"{HEAD}.{name}": p for name, p in self.head.named_parameters()}
        return self.actions.trained_parameters() | head

    def use_average(self, weights: Mapping[str, Tensor]) -> None:
        """Take the EMA of the trained weights, where the actions' loss asks it."""
        self.actions.use_average(weights)

    def forward(
        self,
        x: Tensor,
        condition: Condition,
        x_other: Tensor | None,
        prefix: Tensor | None,
        targets: Tensor,
    ) -> Tensor:
        """Return the loss of a batch, a scalar; in evaluation that of the actions alone.

        Args:
            x: chunks (B, horizon, action_dim).
            condition: observations.
            x_other: second chunks.
            prefix: what is known of the chunks.
            targets: (B, n_obs_steps, size), see `Targets.of`.
        """
        cond = self.actions.encode(condition)
        assert cond is not None  # an encoder without observations has nothing to learn
        loss = self.actions(x, cond, x_other, prefix)
        squares = (self.head(cond).float().view_as(targets) - targets).square()
        by_target = self._by_target(squares)
        error = robust(by_target.mean(1), scale=self._scale, power=PSEUDO_HUBER).mean()
        with torch.no_grad():
            in_unit = self._by_target(squares / self._targets.scale.square()).mean(0)
            means = torch.cat([torch.stack([loss, error]), by_target.mean(0), in_unit])
            sums = self._sums[int(self.training)]
            sums[0] += len(x)
            sums[1:] += len(x) * means
        return loss + self._weight * error if self.training else loss

    def _by_target(self, values: Tensor) -> Tensor:
        """Return the mean over steps and numbers of each target, (B, targets)."""
        parts = values.split(list(self._targets.sizes.values()), dim=2)
        return torch.stack([part.mean((1, 2)) for part in parts], dim=1)

    def report(self, *, training: bool) -> dict[str, float]:
        """Return the loss of the actions and how well the targets were told, and start afresh.

        ``auxiliary_loss`` is their error without its weight. Of each target there are
        ``auxiliary_rmse_<name>``, the root mean square error in the unit of the data, and
        ``auxiliary_unexplained_<name>``, the share of its variance: 0 is perfect, 1 what always
        saying the mean would give.

        Args:
            training: of training steps, or of validation.
        """
        sums = self._sums[int(training)]
        rows, *summed = sums.tolist()
        sums.zero_()
        if not rows:
            return {}
        loss, error, *by_target = (value / rows for value in summed)
        found = {"loss": loss, "auxiliary_loss": error}
        keys = list(self._targets.sizes)
        for key, normalised, in_unit in zip(
            keys, by_target[: len(keys)], by_target[len(keys) :], strict=True
        ):
            found[f"auxiliary_rmse_{key}"] = math.sqrt(in_unit)
            if variance := self._targets.variances[key]:
                found[f"auxiliary_unexplained_{key}"] = normalised / variance
        return found


def _head(n_in: int, hidden: list[int], n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_in, width), nn.SiLU()]
        n_in = width
    last = nn.Linear(n_in, n_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
