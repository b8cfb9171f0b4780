"""The weights that a student block starts with: those of its group's last block, where they fit."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lfm_policy.flow import FlowBlock, MeanVelocityMethod
from lfm_policy.flow.fitting import load_fitting_weights
from lfm_policy.flow.guidance import plain_network
from lfm_policy.networks.conditioning import with_condition_of, with_more_times


def start_from_block(student: nn.Module, block: FlowBlock) -> None:
    """Give a student the weights of the teacher's block, if they fit and mean the same to it.

    Where only its condition is of another length, because it sees something else, what weighs the
    condition stays as it was drawn.
    """
    before = plain_network(block.network)
    if not isinstance(before, nn.Module):
        return
    is_velocity = block.method.config.has_velocity and block.velocity is block.network
    weights: Mapping[str, Tensor] = before.state_dict()
    if getattr(student, "n_times", 1) == 1:
        if not is_velocity:
            return
    elif not isinstance(block.method, MeanVelocityMethod):
        if not is_velocity:
            return
        weights = with_more_times(student, weights)
    if getattr(student, "cond_dim", 0) != getattr(before, "cond_dim", 0):
        weights = with_condition_of(student, weights)
    load_fitting_weights(student, weights)
