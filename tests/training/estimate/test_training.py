"""Estimates of real trainings: what they count, and that nothing changes by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.data.dataset import DatasetBundle
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.training import BlockPlan, Run, train, train_parts
from lfm_policy.training.estimate.training import DataFacts, estimate_run, estimate_training
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics

MakeConfig = Callable[..., ExperimentConfig]
SameWeights = Callable[[Path, Path], None]

JOINT = {
    "encoder": {"name": "state", "hidden": [6]},
    "training.encoder": "joint",
    "training.encoder_steps": 5,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        JOINT,
        {"training.block_training": "parallel", "policy.max_prefix": 1},
        {"training.obs_noise": 0.1, "network.dropout": 0.2},
        {"training.mixed_precision": "bf16"},
    ],
    ids=["blocks", "joint", "parallel", "noise", "bf16"],
)
def test_weights_are_those_without_an_estimate(
    changes: dict[str, Any],
    make_config: MakeConfig,
    assert_same_weights: SameWeights,
    tmp_path: Path,
) -> None:
    config = make_config(changes)
    run = Run(config, tmp_path / "without", device="cpu", quiet=True)
    train_parts(run, BlockPlan(run))
    train(config, tmp_path / "with", device="cpu", quiet=True)
    assert_same_weights(tmp_path / "without", tmp_path / "with")
    kinds = [record["kind"] for record in read_metrics(tmp_path / "with" / METRICS_FILE)]
    assert kinds[0] == "estimate" and kinds.count("estimate") == 1


@pytest.fixture(scope="module")
def camera_config(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    path = tmp_path_factory.mktemp("cameras") / "cameras.zarr"
    generator = np.random.default_rng(0)
    arrays = {
        "action": generator.normal(size=(40, 2)).astype(np.float32),
        "front": generator.integers(0, 256, (40, 20, 24, 3), dtype=np.uint8),
    }
    write_zarr(path, ReplayBuffer(arrays, np.array([20, 40])))
    options: dict[str, Any] = {
        "dataset": {"path": str(path), "obs_keys": ["front"], "validation_ratio": 0.5},
        "policy": {"horizon": 4, "n_action_steps": 2},
        "encoder": {
            "name": "cameras",
            "image": {"name": "compact", "width": 4, "keypoints": 2, "crop": [18, 20]},
        },
        "network": {"width": 16, "n_layers": 1},
        "flow": {"n_blocks": 2, "step_sizes": [0.1]},
        "push_forward": {"solver": "heun", "n_steps": 3, "batch_size": 8},
        "training": {
            "encoder": "joint",
            "encoder_steps": 4,
            "encoder_batch_size": 4,
            "encoder_views": 3,
            "batch_size": 8,
            "total_steps": 10,
            "warmup_steps": 1,
            "validation_every": 2,
        },
    }
    return config_from_dict(options, "test")


def test_cameras_count_steps_frames_and_evaluations(
    camera_config: ExperimentConfig, assert_same_weights: SameWeights, tmp_path: Path
) -> None:
    run = Run(camera_config, tmp_path / "without", device="cpu", quiet=True)
    plan = BlockPlan(run)
    estimate = estimate_run(run, plan)
    counts = {(share.label, share.unit): share.count for share in estimate.shares}
    rows = len(run.train_set) + len(run.validation_set or ())
    assert counts["encoder", "step"] == 4
    assert counts["blocks", "step"] == 10
    assert counts["features", "frame"] == 40 * 3
    assert counts["push-forward", "evaluation"] == pytest.approx(rows / 8 * 6)
    assert estimate.disk_bytes["features"] == 40 * 3 * 4 * 4
    assert estimate.disk_bytes["camera frames"] == 40 * 20 * 24 * 3
    assert estimate.memory_bytes > 50_000_000  # torch alone takes more
    assert run.train_set.n_views == 0  # they are still to be computed
    train_parts(run, plan)
    train(camera_config, tmp_path / "with", device="cpu", quiet=True)
    assert_same_weights(tmp_path / "without", tmp_path / "with")


def test_a_run_that_goes_on_counts_what_is_left(
    make_config: MakeConfig, tmp_path: Path, before_step: Callable[..., None]
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    config = make_config(JOINT, checkpoints=True)
    before_step(2, 6, stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, device="cpu", quiet=True)
    run = Run(config, tmp_path, device="cpu", resume=True, quiet=True)
    labels = {share.label: share.count for share in estimate_run(run, BlockPlan(run)).shares}
    assert "push-forward" not in labels and "encoder" not in labels
    assert labels["blocks"] == 15 - 4  # of the checkpoint


def test_a_configuration_is_enough(
    make_config: MakeConfig, load_data: Callable[[ExperimentConfig], DatasetBundle]
) -> None:
    config = make_config(JOINT)
    facts = DataFacts({"position": (3,)}, 2, np.array([11, 14, 9, 16, 12]))
    data = load_data(config)
    assert data.validation is not None
    counts = facts.counts(config)
    assert (counts.windows, counts.validation_windows) == (len(data.train), len(data.validation))
    assert counts.frames == 62
    torch.manual_seed(0)
    expected = torch.randn(2)
    torch.manual_seed(0)
    estimate = estimate_training(config, facts, device="cpu")
    assert torch.equal(torch.randn(2), expected)
    steps = {share.label: share.count for share in estimate.shares if share.unit == "step"}
    assert steps == {"encoder": 5, "blocks": 30}
    assert estimate.seconds > 0


def test_blocks_of_other_networks_are_measured_apart(make_config: MakeConfig) -> None:
    config = make_config({"block_networks": [{"width": 16}, {"width": 8}]})
    facts = DataFacts({"position": (3,)}, 2, np.array([40, 40]))
    estimate = estimate_training(config, facts, device="cpu")
    labels = [share.label for share in estimate.shares if share.unit == "step"]
    assert labels == ["block 1", "block 2"]


def test_there_may_be_many_short_episodes(make_config: MakeConfig) -> None:
    facts = DataFacts({"position": (3,)}, 2, np.full(100, 40))
    assert estimate_training(make_config({}), facts, device="cpu").seconds > 0


def test_episodes_too_short_for_the_horizon_are_an_error(make_config: MakeConfig) -> None:
    facts = DataFacts({"position": (3,)}, 2, np.array([1, 1]))
    with pytest.raises(InputError, match="longer than every episode"):
        estimate_training(make_config({"policy.horizon": 8}), facts, device="cpu")
