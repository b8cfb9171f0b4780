"""Committed actions as part of the condition of the velocity networks."""

from __future__ import annotations

import torch
from torch import Tensor

from lfm_policy.config.schema import ExperimentConfig


class PrefixCondition:
    """The first actions that will be executed of a chunk, because they are decided already.

    Of a chunk, the actions from index ``n_obs_steps`` - 1 on are executed. A policy with
    ``policy.max_prefix`` = P above 0 can be given the first d <= P of them; it then samples the
    rest from p(chunk | observations, prefix). It learns that from demonstrations whose first d
    actions it is shown, d being random. The condition of the networks grows by the P actions
    (normalised; 0 from the d-th on) and a mask of P numbers, and nothing else changes, so every
    block, the push-forward and students work as they do without.

    Attributes:
        max_prefix: P.
        first: index of the first executed action in a chunk.
        size: numbers added to the condition, P * (action_dim + 1).
    """

    def __init__(self, max_prefix: int, first: int, action_dim: int) -> None:
        self.max_prefix = max_prefix
        self.first = first
        self.size = max_prefix * (action_dim + 1)

    def features(self, actions: Tensor, mask: Tensor) -> Tensor:
        """Return what is added to the condition, (B, size).

        Args:
            actions: (B, P, action_dim), normalised; what is not masked has no influence.
            mask: (B, P), 1 for the actions that are given.
        """
        return torch.cat([(actions * mask[..., None]).flatten(1), mask], dim=1)

    def of_chunks(self, chunks: Tensor, lengths: Tensor) -> Tensor:
        """Return the features of prefixes of normalised chunks, (B, size).

        Args:
            chunks: (B, horizon, action_dim).
            lengths: (B,) int64, 0 to P.
        """
        actions = chunks[:, self.first : self.first + self.max_prefix]
        places = torch.arange(self.max_prefix, device=chunks.device)
        mask = places[None, :] < lengths.to(chunks.device)[:, None]
        return self.features(actions, mask.to(chunks.dtype))

    def put(self, chunks: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """Return chunks (B, horizon, action_dim) that begin with exactly the given actions.

        Args:
            chunks: sampled.
            actions: (B, P, action_dim), in the units of ``chunks``.
            mask: as in `features`.
        """
        end = self.first + self.max_prefix
        begun = torch.where(mask[..., None] > 0, actions, chunks[:, self.first : end])
        return torch.cat([chunks[:, : self.first], begun, chunks[:, end:]], dim=1)


def prefix_condition(config: ExperimentConfig, action_dim: int) -> PrefixCondition | None:
    """Return how a policy is given prefixes; None for one that takes none."""
    policy = config.policy
    if not policy.max_prefix:
        return None
    return PrefixCondition(policy.max_prefix, policy.n_obs_steps - 1, action_dim)


def with_prefix(obs_cond: Tensor | None, features: Tensor | None) -> Tensor | None:
    """Return the condition of the networks: the encoded observations, then the prefix."""
    if obs_cond is None or features is None:
        return obs_cond if features is None else features
    return torch.cat([obs_cond, features], dim=1)
