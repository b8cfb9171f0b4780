"""Trainings with pretrained backbones: which begin with their weights, and who needs the file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.errors import InputError
from lfm_policy.policy import load_policy, read_header
from lfm_policy.training import train
from lfm_policy.training.blocks import BlockPlan
from lfm_policy.training.run import Run
from lfm_policy.training.start.source import with_source

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow

SIDE = 32
RESNET = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = transformers.ResNetModel(transformers.ResNetConfig(**RESNET))
    made.save_pretrained(tmp_path / "net")
    return tmp_path / "net"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    images = {
        key: generator.integers(0, 256, (30, SIDE, SIDE, 3), dtype=np.uint8)
        for key in ("front", "wrist")
    }
    numbers = {
        key: generator.normal(size=(30, n)).astype(np.float32)
        for key, n in {"action": 2, "position": 3}.items()
    }
    write_zarr(tmp_path / "demos.zarr", ReplayBuffer(images | numbers, np.array([10, 20, 30])))
    return tmp_path / "demos.zarr"


def config_of(data: Path, model: Path, *cameras: str, **more: Any) -> ExperimentConfig:
    options = {
        "name": "pretrained",
        "dataset": {
            "name": "zarr",
            "path": str(data),
            "obs_keys": [*cameras, "position"],
            "validation_ratio": 0.4,
        },
        "policy": {"n_obs_steps": 1, "horizon": 4, "n_action_steps": 2},
        "encoder": {
            "name": "cameras",
            "image": {"name": "pretrained", "model": str(model), "output_dim": 4},
        },
        "network": {"name": "mlp", "width": 8, "n_layers": 1, "time_embed_dim": 8},
        "flow": {"n_blocks": 1, "step_sizes": []},
        "training": {"total_steps": 4, "batch_size": 4, "warmup_steps": 1, "num_threads": 1},
        "distill": {"training": {}},
    }
    return config_from_dict(options | more, "test")


def is_the_files(run: Run, camera: str, model: Path) -> bool:
    backbone = run.model.encoder.image_encoder(camera).backbone  # type: ignore[operator]
    weights = load_file(model / "model.safetensors")
    return all(
        torch.equal(tensor, weights[name])
        for name, tensor in backbone.state_dict().items()
        if name in weights
    )


def test_a_new_camera_begins_with_the_weights_of_the_file(
    data: Path, model: Path, tmp_path: Path
) -> None:
    train(config_of(data, model, "front"), tmp_path / "one", device="cpu", quiet=True)
    config = config_of(data, model, "front", "wrist", init={"new_obs": "add"})
    header = read_header(tmp_path / "one")
    run = Run(
        with_source(config, header), tmp_path / "two", device="cpu", quiet=True, source=header
    )
    BlockPlan(run)
    assert is_the_files(run, "front", model) and is_the_files(run, "wrist", model)
    init = {"new_obs": "add", "encoder": "freeze"}
    freezing = config_of(data, model, "front", "wrist", init=init)
    with pytest.raises(InputError, match="wrist are new to its encoder, which is not to learn"):
        train(freezing, tmp_path / "three", device="cpu", init_from=tmp_path / "one", quiet=True)


def test_who_has_the_weights_needs_no_file(data: Path, model: Path, tmp_path: Path) -> None:
    config = config_of(data, model, "front")
    train(config, tmp_path / "one", device="cpu", quiet=True)
    resolved = load_policy(tmp_path / "one").config
    shutil.rmtree(model)
    longer = config_of(
        data,
        model,
        "front",
        encoder={"name": "cameras", "image": resolved.encoder.image},  # type: ignore[attr-defined]
        training={"total_steps": 8, "batch_size": 4, "warmup_steps": 1, "num_threads": 1},
    )
    train(longer, tmp_path / "one", device="cpu", resume=True, quiet=True)
    overrides = ["training.total_steps=2"]
    student = distill(tmp_path / "one", nfe=1, overrides=overrides, device="cpu", quiet=True)
    assert load_policy(student).info["steps"] == 2
    with pytest.raises(InputError, match="there is no such folder"):
        train(longer, tmp_path / "another", device="cpu", quiet=True)


def test_training_and_validation_have_the_same_frames(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lfm_policy.data.dataset import WindowDataset

    moved: list[WindowDataset] = []
    to = WindowDataset.to
    monkeypatch.setattr(
        WindowDataset, "to", lambda self, device: moved.append(self) or to(self, device)
    )
    run = Run(config_of(data, model, "front"), tmp_path / "run", device="cpu", quiet=True)
    assert moved == [run.data.train]
    assert run.validation_set is not None and run.data.validation is not None
    assert run.validation_set._frames["front"] is run.train_set._frames["front"]
    assert len(run.validation_set.index) == len(run.data.validation.index) > 0
