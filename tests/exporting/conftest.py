"""Small policies with random weights, exported once per session, and what they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, Policy, PolicyModel
from lfm_runtime.policy.spec import is_image

OBS_SHAPES = {"agent_pos": (2,), "pose": (4,)}
ACTION_DIM = 3
STEPS = {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3}
MLP = {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8}


def build_policy(
    n_blocks: int = 2,
    obs_shapes: dict[str, tuple[int, ...]] | None = None,
    action_dim: int = ACTION_DIM,
    **sections: Any,
) -> Policy:
    """Return a policy from options; ``sections`` replace whole sections."""
    options = {
        "name": "small",
        "flow": {"n_blocks": n_blocks, "c": 0.2},
        "policy": {**STEPS, "clip_actions": False},
        "network": MLP,
        "sampler": {"solver": "euler", "nfe": n_blocks, "noise_scale": 1.0},
        **sections,
    }
    config = config_from_dict(options, "test")
    spec = DataSpec(OBS_SHAPES if obs_shapes is None else obs_shapes, action_dim)
    generator = np.random.default_rng(0)
    shapes = {**spec.obs_shapes, "action": (spec.action_dim,)}
    normalizer = Normalizer.fit(
        {
            key: generator.uniform(100, 400, (50, *shape))
            for key, shape in shapes.items()
            if not is_image(shape)
        }
    )
    model = PolicyModel(config, spec)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=noise))
    return Policy(config, spec, model, normalizer, info={"sha256": "1" * 64, "steps": 7})


def random_batch(policy: Policy, n_rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random histories, each (n_rows, n_obs_steps, *shape)."""
    n = policy.n_obs_steps
    frames = [policy.fake_obs(seed + i) for i in range(max(n_rows, 1) * n)]
    return {
        key: np.stack([frame[key] for frame in frames]).reshape(-1, n, *shape)[:n_rows]
        for key, shape in policy.spec.obs_shapes.items()
    }


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Path]:
    """Return a small policy and the folder it was exported to; tests must not change it."""
    pytest.importorskip("onnxscript")
    from lfm_policy.exporting import export_policy

    policy = build_policy(sampler={"solver": "euler", "nfe": 4, "noise_scale": 0.6})
    return policy, export_policy(policy, tmp_path_factory.mktemp("export") / "small")
