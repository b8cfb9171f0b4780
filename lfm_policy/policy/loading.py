"""From a checkpoint to a policy that acts."""

from __future__ import annotations

from pathlib import Path

import torch

from lfm_policy.checkpoint_folders import MODEL_FILE
from lfm_policy.policy.checkpoint import (
    check_model_file,
    read_header,
    read_normalizer,
    require_sampleable,
)
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.policy import Policy
from lfm_policy.policy.tensors import fill_tensors


def load_policy(path: str | Path, device: str | torch.device = "cpu") -> Policy:
    """Load a trained policy::

        policy = load_policy("runs/my_robot")
        policy = load_policy("runs/my_robot/checkpoints/best", device="cuda")
        policy = load_policy("pusht-state")

    Args:
        path: a checkpoint folder, a run folder (its newest checkpoint is taken), the name of a
            policy that comes with the package, such as "pusht-state", or of one on the Hugging
            Face hub: "user/name" or "user/name@revision" (see `lfm_policy.sharing.hub`).
        device: where the networks run.

    Returns:
        The policy, with the sampler that its configuration says.

    Raises:
        InputError: there is no checkpoint, it is damaged, does not match its configuration, was
            written by a newer version, needs a plugin that is not loaded, or its training has not
            reached the last block.
    """
    header = read_header(path)
    require_sampleable(header)
    normalizer = read_normalizer(header)
    check_model_file(header)
    # Initial weights are drawn and thrown away; the caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]):
        model = PolicyModel(header.config, header.spec)
    fill_tensors(header.folder / MODEL_FILE, model.state_dict())
    return Policy(
        header.config,
        header.spec,
        model,
        normalizer,
        device=device,
        info={**header.training, "checkpoint": str(header.folder), "sha256": header.sha256},
    )
