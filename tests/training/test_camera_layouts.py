"""A policy trained on cameras with channels first is the one trained on their twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import load_file

from lfm_policy.config import ExperimentConfig
from lfm_policy.policy import find_checkpoint, load_policy
from lfm_policy.training import train
from lfm_policy.training.rows.features import FEATURES

pytestmark = pytest.mark.slow

LENGTHS = (11, 9, 12)


def make_store(path: Path, *, channels_first: bool) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (sum(LENGTHS), 20, 22, 3), np.uint8)
    root = zarr.create_group(path, zarr_format=2)
    root.create_array("data/action", data=rng.normal(size=(sum(LENGTHS), 2)))
    root.create_array("data/position", data=rng.normal(size=(sum(LENGTHS), 3)))
    root.create_array("data/image", data=images.transpose(0, 3, 1, 2) if channels_first else images)
    root.create_array("meta/episode_ends", data=np.cumsum(LENGTHS))
    return path


@pytest.mark.filterwarnings("ignore:.*channels first")
@pytest.mark.parametrize("mode", ["joint", "block1"])
def test_twins(make_config: Callable[..., ExperimentConfig], tmp_path: Path, mode: str) -> None:
    weights, features = [], []
    for channels_first in (False, True):
        name = f"first-{channels_first}"
        store = make_store(tmp_path / f"{name}.zarr", channels_first=channels_first)
        options: dict[str, Any] = {
            "dataset.path": str(store),
            "dataset.obs_keys": ["image", "position"],
            "dataset.validation_ratio": 0.3,
            "encoder.name": "cameras",
            "encoder.image": {"name": "compact", "width": 4, "keypoints": 3, "crop": [16, 16]},
            "training.encoder": mode,
            "training.total_steps": 8,
            **({"training.encoder_steps": 4} if mode == "joint" else {}),
        }
        run = tmp_path / name / "run"
        train(make_config(options), run, device="cpu", quiet=True)
        weights.append(load_file(find_checkpoint(run) / "model.safetensors"))
        policy = load_policy(run)
        assert policy.spec.obs_shapes["image"] == (20, 22, 3)
        # Under a name that is a digest of the encoder and the demonstrations.
        (file,) = (run / FEATURES).iterdir()
        features.append({file.name: load_file(file)["image"]})
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)
    torch.testing.assert_close(features[1], features[0], rtol=0, atol=0)
