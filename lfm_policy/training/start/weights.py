"""Initial weights that depend on the seed and on nothing else."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.block_networks import network_configs
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
