"""A small policy with random weights, and a checkpoint of it, made by today's code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.policy import DataSpec, Policy, PolicyModel, write_checkpoint
from lfm_runtime.policy.spec import is_image

OBS_SHAPES = {"agent_pos": (2,), "pose": (4,)}
ACTION_DIM = 3


def small_options(n_blocks: int = 2, **sections: Any) -> dict[str, Any]:
    """Return options of a tiny policy; ``sections`` replace whole sections."""
    return {
        "name": "small",
        "flow": {"n_blocks": n_blocks, "c": 0.2},
        "policy": {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3, "clip_actions": False},
        "network": {"name": "mlp", "width": 16, "n_layers": 1, "time_embed_dim": 8},
        "sampler": {"solver": "euler", "nfe": 2 * n_blocks, "noise_scale": 1.0},
        **sections,
    }


def random_model(config: ExperimentConfig, spec: DataSpec, seed: int = 0) -> PolicyModel:
    """Return a model whose output layers are not zero, so that every weight matters."""
    model = PolicyModel(config, spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def random_normalizer(spec: DataSpec, seed: int = 0) -> Normalizer:
    """Return statistics of random data in the range of about 100 to 400."""
    generator = np.random.default_rng(seed)
    shapes = {**spec.obs_shapes, "action": (spec.action_dim,)}
    return Normalizer.fit(
        {
            key: generator.uniform(100, 400, (50, *shape))
            for key, shape in shapes.items()
            if not is_image(shape)
        }
    )


def training_summary(config: ExperimentConfig, model: PolicyModel) -> dict[str, Any]:
    """Return what a finished training writes into a checkpoint."""
    n_blocks = config.flow.n_blocks
    record = {
        "steps": 10,
        "train_seconds": 1.5,
        "push_seconds": 0.5,
        "push_nfe": 14,
        "loss": 0.5,
        "validation_loss": None,
    }
    return {
        "complete": True,
        "block_steps": [10] * n_blocks,
        "steps": 10 * n_blocks,
        "train_seconds": 1.5 * n_blocks,
        "push_seconds": 0.5 * n_blocks,
        "blocks": [dict(record) for _ in range(n_blocks)],
        "world": 1,
        "parameters": model.parameter_counts(),
        "threads": 1,
        "device": "cpu",
        "torch": "2.0",
        "train_windows": 100,
    }


@pytest.fixture
def make_policy() -> Callable[..., Policy]:
    """Return a function that builds a policy from options (see `small_options`)."""

    def make(
        n_blocks: int = 2,
        obs_shapes: dict[str, tuple[int, ...]] | None = None,
        **sections: Any,
    ) -> Policy:
        config = config_from_dict(small_options(n_blocks, **sections), "test")
        spec = DataSpec(OBS_SHAPES if obs_shapes is None else obs_shapes, ACTION_DIM)
        return Policy(config, spec, random_model(config, spec), random_normalizer(spec))

    return make


@pytest.fixture
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a checkpoint and returns its folder."""

    def make(
        name: str = "checkpoint",
        *,
        n_blocks: int = 2,
        training: dict[str, Any] | None = None,
        **sections: Any,
    ) -> Path:
        config = config_from_dict(small_options(n_blocks, **sections), "test")
        spec = DataSpec(OBS_SHAPES, ACTION_DIM, fingerprint="0" * 64)
        model = random_model(config, spec)
        folder = tmp_path / name
        folder.mkdir(parents=True)
        write_checkpoint(
            folder,
            config=config,
            spec=spec,
            model_state=model.state_dict(),
            normalizer=random_normalizer(spec),
            training=training_summary(config, model) | (training or {}),
        )
        return folder

    return make


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint()
