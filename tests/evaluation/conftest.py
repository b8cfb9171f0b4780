"""A PushT policy with random weights: its actions depend on the observations and on the noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, Policy, PolicyModel

PIXELS = np.array([[0.0], [512.0]])


def random_policy(options: dict | None = None) -> Policy:
    config: ExperimentConfig = config_from_dict(
        {
            "network": {"name": "mlp", "width": 24, "n_layers": 1},
            "flow": {"n_blocks": 2, "step_sizes": [0.1]},
            "sampler": {"nfe": 4, "noise_scale": 1.0},
            "env": {"id": "lfm/PushT-v0", "max_episode_steps": 60},
            **(options or {}),
        },
        "test",
    )
    shapes = {"agent_pos": (2,), "block_pose": (4,), "keypoints": (16,)}
    spec = DataSpec(shapes, action_dim=2)
    arrays = {key: np.repeat(PIXELS, shape[0], axis=1) for key, shape in shapes.items()}
    normalizer = Normalizer.fit({"action": np.repeat(PIXELS, 2, axis=1), **arrays})
    torch.manual_seed(0)
    model = PolicyModel(config, spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return Policy(config, spec, model, normalizer)


@pytest.fixture()
def policy() -> Policy:
    return random_policy()
