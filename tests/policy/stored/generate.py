"""Writes an example checkpoint and the actions that it gives; see README.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lfm_policy import load_policy
from lfm_policy.config import config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, PolicyModel, write_checkpoint
from lfm_runtime.disk.files import write_json

OPTIONS: dict[str, Any] = {
    "name": "stored-example",
    "seed": 7,
    "dataset": {"name": "zarr", "path": "demonstrations.zarr", "obs_keys": ["agent_pos", "pose"]},
    "policy": {"n_obs_steps": 2, "horizon": 8, "n_action_steps": 4},
    "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
    "flow": {"n_blocks": 2, "c": 0.3, "block_interpolants": ["trigonometric", "linear"]},
    "sampler": {"solver": "midpoint", "nfe": 8},
    "env": {"id": "lfm/PushT-v0"},
}
SAMPLERS: tuple[dict[str, Any], ...] = (
    {},
    {"solver": "euler", "nfe": 5},
    {"solver": "heun", "nfe": 4},
    {"solver": "dopri5"},
)


def write_example(folder: Path) -> None:
    """Write the checkpoint and ``expected.json`` into a folder that does not exist yet."""
    config = config_from_dict(OPTIONS, "generate.py")
    spec = DataSpec({"agent_pos": (2,), "pose": (4,)}, action_dim=2, fingerprint="0" * 64)
    generator = np.random.default_rng(0)
    normalizer = Normalizer.fit(
        {
            "action": generator.uniform(0, 500, (50, 2)),
            "agent_pos": generator.uniform(0, 500, (50, 2)),
            "pose": generator.uniform(-1, 1, (50, 4)),
        }
    )
    model = PolicyModel(config, spec)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.from_numpy(generator.normal(0, 0.3, tensor.shape)))
    record = {
        "steps": 100,
        "train_seconds": 2.5,
        "push_seconds": 0.5,
        "push_nfe": 26,
        "loss": 0.25,
        "validation_loss": None,
    }
    training = {
        "complete": True,
        "block_steps": [100, 100],
        "steps": 200,
        "train_seconds": 5.0,
        "push_seconds": 1.0,
        "blocks": [record, record],
        "world": 1,
        "parameters": model.parameter_counts(),
        "threads": 1,
        "device": "cpu",
        "torch": "2",
        "train_windows": 50,
    }
    folder.mkdir(parents=True)
    write_checkpoint(
        folder,
        config=config,
        spec=spec,
        model_state=model.state_dict(),
        normalizer=normalizer,
        training=training,
    )
    write_json(folder / "expected.json", _expected(folder, generator))


def _expected(folder: Path, generator: np.random.Generator) -> dict[str, Any]:
    """Return observations, noise and the actions for them."""
    policy = load_policy(folder)
    obs = {
        "agent_pos": generator.uniform(0, 500, (2, 2, 2)).round(2),
        "pose": generator.uniform(-1, 1, (2, 2, 4)).round(3),
    }
    noise = generator.standard_normal((2, 8, 2)).round(3)
    cases = []
    for sampler in SAMPLERS:
        policy.set_sampler(**sampler)
        actions = policy.predict_action_chunk(obs, noise=torch.tensor(noise))
        policy.sample_seed(5, episode=3)
        seeded = policy.predict_action_chunk(obs)
        cases.append(
            {"sampler": sampler, "actions": actions.tolist(), "seed_5_episode_3": seeded.tolist()}
        )
    return {
        "obs": {key: value.tolist() for key, value in obs.items()},
        "noise": noise.tolist(),
        "cases": cases,
    }


if __name__ == "__main__":
    write_example(Path(sys.argv[1]))
