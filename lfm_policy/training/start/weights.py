"""Initial weights: those of a seed, which depend on nothing else, and those of a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.block_networks import network_configs
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import CheckpointHeader
from lfm_policy.policy.model import PolicyModel, create_block_network, create_encoder
from lfm_policy.training.seeds import INITIAL_WEIGHTS, derived_seed
from lfm_runtime.policy.spec import DataSpec


def new_cameras(model: PolicyModel, *known: CheckpointHeader | None) -> list[str] | None:
    """Return the cameras of a model that none of the checkpoints has weights for.

    None where there is no checkpoint, and all is new.
    """
    seen = [header.spec.obs_shapes for header in known if header is not None]
    if not seen:
        return None
    return [key for key in model.encoder.image_keys if not any(key in shapes for shapes in seen)]


def draw_initial_weights(
    model: PolicyModel,
    config: ExperimentConfig,
    spec: DataSpec,
    *,
    pretrained: Collection[str] | None = (),
) -> None:
    """Draw the weights of each part from its own seed, whatever the other parts are.

    So a block starts from the same weights in a chain of any length, and in a process of its own.
    ``pretrained`` are the cameras whose backbones begin with weights of theirs: those whose
    weights do not come from elsewhere; None: whatever the encoder has is loaded.
    """
    networks = network_configs(config)
    for position, part in enumerate([model.encoder, *model.blocks]):
        torch.manual_seed(derived_seed(config.seed, INITIAL_WEIGHTS, position))
        fresh: nn.Module
        if position == 0:
            fresh = create_encoder(config, spec)
        else:
            fresh = create_block_network(config, spec, networks[position - 1], model.encoder)
        part.load_state_dict(fresh.state_dict())
    if pretrained is None:
        model.encoder.load_pretrained()
    elif pretrained:
        model.encoder.load_pretrained(pretrained)


def taken_over(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: CheckpointHeader,
    *,
    may_lack: bool,
) -> dict[str, Tensor]:
    """Return weights with those of a checkpoint in their places.

    Args:
        own: by name; they stay where the checkpoint has none.
        state: the checkpoint's.
        source: the checkpoint.
        may_lack: whether it may have none of a name.

    Raises:
        InputError: its weights have other shapes, or it lacks some that it must have.
    """
    weights = dict(own)
    for name, tensor in own.items():
        if name in state and state[name].shape == tensor.shape:
            weights[name] = state[name]
        elif name in state or not may_lack:
            found = tuple(state[name].shape) if name in state else "missing"
            raise InputError(
                f"{source.folder}: cannot be started from: its weights '{name}' are {found}, "
                f"expected {tuple(tensor.shape)}: the networks or cameras are configured otherwise"
            )
    return weights
