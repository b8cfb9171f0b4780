"""Small policies, their chunks, and LeRobot's arithmetic on a folder, without LeRobot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lfm_policy.config import config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, Policy, PolicyModel
from lfm_runtime.policy.spec import is_image

MakePolicy = Callable[..., Policy]


@pytest.fixture
def make_policy() -> MakePolicy:
    """Return a function that makes a policy with random weights.

    Its keywords are sections of the configuration; ``shapes`` are those of observations, ``arrays``
    what the normaliser is fitted on in place of random numbers.
    """

    def make(
        shapes: dict[str, tuple[int, ...]] | None = None,
        arrays: dict[str, np.ndarray] | None = None,
        **sections: Any,
    ) -> Policy:
        spec = DataSpec(shapes or {"pose": (4,), "agent_pos": (2,)}, 3)
        images = any(map(is_image, spec.obs_shapes.values()))
        image = {"name": "compact", "crop": [16, 16], "width": 8}
        options = {
            "name": "small",
            "flow": {"n_blocks": 2, "c": 0.2},
            "policy": {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3},
            "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
            "encoder": {"name": "cameras", "image": image} if images else {"name": "state"},
            "sampler": {"nfe": 4, "noise_scale": 0.7},
            **sections,
        }
        config = config_from_dict(options, "test")
        generator = torch.Generator().manual_seed(0)
        model = PolicyModel(config, spec)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        numbers = np.random.default_rng(0)
        data = {
            key: numbers.uniform(-50, 400, (60, *shape))
            for key, shape in {**spec.obs_shapes, "action": (3,)}.items()
            if not is_image(shape)
        } | (arrays or {})
        scaling = config.normalization
        modes = {"default": scaling.obs, "action": scaling.action, **scaling.keys}
        record = {"steps": 5, "train_seconds": 1.0, "push_seconds": 0.0}
        record |= {"loss": 1.0, "validation_loss": None}
        n_blocks = config.flow.n_blocks
        training = {
            "complete": True,
            "steps": 10,
            "train_seconds": 2.0,
            "push_seconds": 0.0,
            "block_steps": [5] * n_blocks,
            "blocks": [record] * n_blocks,
            "parameters": model.parameter_counts(),
        }
        return Policy(config, spec, model, Normalizer.fit(data, modes), info=training)

    return make


def observations(policy: Policy, rows: int = 3, seed: int = 1) -> dict[str, Tensor]:
    """Return random observations in the range of the training data."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, shape in policy.spec.obs_shapes.items():
        full = (rows, policy.n_obs_steps, *shape)
        if is_image(shape):
            found[key] = torch.randint(0, 256, full, dtype=torch.uint8, generator=generator)
        else:
            low, high = (torch.from_numpy(end).float() for end in policy.training_range(key))
            found[key] = low + (high - low) * torch.rand(full, generator=generator)
    return found


def chunks(policy: Policy, obs: dict[str, Tensor], prefix: Tensor | None = None) -> Tensor:
    """Return chunks of always the same noise."""
    rows = len(next(iter(obs.values()), torch.zeros(3)))
    noise = torch.randn(rows, *policy.chunk_shape, generator=torch.Generator().manual_seed(2))
    return policy.sample(obs, noise=noise, prefix=prefix).chunk


def difference(policy: Policy, other: Policy, prefix: Tensor | None = None) -> float:
    """Return the largest difference of chunks, in units of the largest action."""
    obs = observations(policy)
    mine, theirs = chunks(policy, obs, prefix), chunks(other, obs, prefix)
    return float((mine - theirs).abs().max() / mine.abs().max())


def normalised_there(folder: Path, key: str, value: Tensor, *, inverse: bool = False) -> Tensor:
    """Return what LeRobot's normaliser makes of a value, by its formulas and the files alone."""
    part = "post" if inverse else "pre"
    steps = json.loads((folder / f"policy_{part}processor.json").read_text())["steps"]
    (step,) = (step for step in steps if "norm_map" in step["config"])
    kind = step["config"]["features"][key]["type"]
    mode, eps = step["config"]["norm_map"][kind], step["config"]["eps"]
    state = load_file(folder / step["state_file"])
    stats = {n.rpartition(".")[2]: v for n, v in state.items() if n.rpartition(".")[0] == key}
    if mode == "IDENTITY":
        return value
    if mode == "MEAN_STD":
        mean, std = stats["mean"], stats["std"]
        return value * std + mean if inverse else (value - mean) / (std + eps)
    low, high = (stats[n] for n in {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99")}[mode])
    width = torch.where(high == low, eps, high - low)
    return (value + 1) / 2 * width + low if inverse else 2 * (value - low) / width - 1
