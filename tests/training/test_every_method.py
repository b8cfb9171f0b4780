"""Every method of the list, as a user meets it: trained, continued, loaded, distilled, exported.

Methods that are added to the list are tested here as they are. Every one meets every kind of
network, and where it can have several blocks, has three of them with one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lfm_policy.checking import check
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.flow import METHODS, SolverSpec
from lfm_policy.networks import NETWORKS
from lfm_policy.policy import Policy, load_policy
from lfm_policy.training import train
from lfm_runtime import OnnxPolicy

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
AssertSame = Callable[[Path, Path], None]
StoppedAt = Callable[..., AbstractContextManager[None]]
Run = Callable[[str, str], Path]

STEPS = 8
"""Gradient steps of a block."""

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "n_layers": 1, "time_embed_dim": 8},
    "unet1d": {"channels": [8, 16], "n_groups": 4, "embed_dim": 8, "time_embed_dim": 8},
    "conditional_unet1d": {
        "channels": [8, 16],
        "n_groups": 4,
        "head_groups": 4,
        "step_embed_dim": 8,
    },
    "transformer": {"width": 8, "n_layers": 1, "n_heads": 2, "time_embed_dim": 8},
}
PAIRS = [(method, network) for method in METHODS.names() for network in SMALL]
ROTATED = [
    (method, list(SMALL)[position % len(SMALL)]) for position, method in enumerate(METHODS.names())
]
"""Each method with one network, for what takes long."""


def n_blocks_of(method: str, network: str) -> int:
    """Return 3 with an MLP, where the method can have several blocks, else 1."""
    several = network == "mlp" and not METHODS.get(method).single_block
    return 3 if several else 1


def per_step(method: str) -> int:
    """Return how many evaluations the cheapest step of a method takes."""
    rule = METHODS.get(method)().create()
    return rule.evaluations(SolverSpec(rule.default_solver)) or 1


def options_of(method: str, n_blocks: int) -> dict[str, Any]:
    """Return what a tiny experiment needs for a method, with its fewest evaluations."""
    chosen = METHODS.get(method)
    changes: dict[str, Any] = {
        "flow.method": method,
        "flow.n_blocks": n_blocks,
        "sampler.nfe": n_blocks * per_step(method),
        "training.total_steps": n_blocks * STEPS,
        "training.validation_every": STEPS,
        "distill": {"training": {}},  # students of the defaults, but of few steps
    }
    if n_blocks > 1 and not chosen.has_velocity:  # along which data could be pushed on
        changes |= {"training.block_training": "parallel", "training.warm_start": False}
    return changes


@pytest.fixture(scope="module")
def config_of(make_config: MakeConfig) -> Callable[[str, str], ExperimentConfig]:
    def make(method: str, network: str) -> ExperimentConfig:
        changes = options_of(method, n_blocks_of(method, network))
        return make_config({**changes, "network": {"name": network, **SMALL[network]}})

    return make


@pytest.fixture(scope="module")
def run_of(
    config_of: Callable[[str, str], ExperimentConfig], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Return a function that trains a method with a network once, without interruption."""
    root = tmp_path_factory.mktemp("methods")

    def run(method: str, network: str) -> Path:
        folder = root / f"{method}-{network}"
        if not folder.exists():
            train(config_of(method, network), folder, device="cpu", quiet=True)
        return folder

    return run


def batch_of(policy: Policy, rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = policy.spec.obs_shapes
    return {
        key: torch.randn(rows, policy.n_obs_steps, *shape, generator=generator)
        for key, shape in shapes.items()
    }


def test_every_network_is_met() -> None:
    assert set(SMALL) == set(NETWORKS.names())


@pytest.mark.parametrize(("method", "network"), PAIRS)
def test_an_interrupted_training_goes_on_to_the_same_weights(
    run_of: Run,
    config_of: Callable[[str, str], ExperimentConfig],
    tmp_path: Path,
    assert_same_weights: AssertSame,
    stopped_at: StoppedAt,
    method: str,
    network: str,
) -> None:
    config = config_of(method, network)
    whole = run_of(method, network)
    last = config.flow.n_blocks
    with stopped_at(last, STEPS // 2):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    train(config, tmp_path / "run", device="cpu", resume=True, quiet=True)
    assert_same_weights(tmp_path / "run", whole)


@pytest.mark.parametrize(("method", "network"), PAIRS)
def test_what_was_stored_samples_with_the_fewest_evaluations_and_with_more(
    run_of: Run,
    config_of: Callable[[str, str], ExperimentConfig],
    method: str,
    network: str,
) -> None:
    policy = load_policy(run_of(method, network))
    assert policy.config.flow == config_of(method, network).flow
    assert policy.config.network == config_of(method, network).network
    batch, noise = batch_of(policy, 3), torch.randn(3, *policy.chunk_shape)
    fewest = policy.config.flow.n_blocks * per_step(method)
    chunks = []
    for nfe in (fewest, fewest + per_step(method)):
        policy.set_sampler(nfe=nfe)
        result = policy.sample(batch, noise=noise)
        assert result.nfe == nfe
        assert result.chunk.shape == (3, *policy.chunk_shape)
        assert bool(torch.isfinite(result.chunk).all())
        chunks.append(result.chunk)
        assert torch.equal(policy.sample(batch, noise=noise).chunk, result.chunk)
    # What networks have learnt is used, and so is what was observed.
    other = {key: value + 1 for key, value in batch.items()}
    assert not torch.equal(policy.sample(other, noise=noise).chunk, chunks[-1])


@pytest.mark.parametrize("method", METHODS.names())
def test_it_teaches_a_student(run_of: Run, tmp_path: Path, method: str) -> None:
    folder = run_of(method, "mlp")
    quick = ["training.total_steps=4", "training.validation_every=4", "distill.samples=1"]
    student = distill(
        folder, tmp_path / "student", nfe=1, overrides=quick, device="cpu", quiet=True
    )
    policy = load_policy(student)
    assert policy.config.flow.method.name == "velocity"
    result = policy.sample(batch_of(policy, 2))
    assert result.nfe == 1 and bool(torch.isfinite(result.chunk).all())


@pytest.mark.parametrize(("method", "network"), ROTATED)
def test_the_export_computes_the_same_chunks(
    run_of: Run, tmp_path: Path, method: str, network: str
) -> None:
    pytest.importorskip("onnxscript")
    from lfm_policy.exporting import export_policy

    policy = load_policy(run_of(method, network))
    exported = OnnxPolicy(export_policy(policy, tmp_path / "exported"))
    assert exported.nfe == policy.nfe
    for rows in (1, 4):
        batch = {key: value.numpy() for key, value in batch_of(policy, rows).items()}
        noise = np.random.default_rng(rows).standard_normal((rows, *policy.chunk_shape))
        expected = policy.sample(batch, noise=torch.from_numpy(noise)).chunk
        found = exported.sample(batch, noise=noise).chunk
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("method", "network"), ROTATED)
def test_its_losses_are_checked(run_of: Run, method: str, network: str) -> None:
    found = check(run_of(method, network), samples=2, device="cpu").to_dict()
    losses = found["blocks"]
    assert len(losses) == n_blocks_of(method, network)
    for block in losses:
        assert np.isfinite(block["held_out"]) and block["held_out"] >= 0
        assert np.isfinite(block["training"]) and block["training"] >= 0


@pytest.mark.parametrize("method", METHODS.names())
def test_half_precision_learns_nearly_the_same(
    make_config: MakeConfig, tmp_path: Path, method: str
) -> None:
    chunks = []
    for precision in ("no", "bf16"):
        changes = {**options_of(method, 1), "training.mixed_precision": precision}
        train(make_config(changes), tmp_path / precision, device="cpu", quiet=True)
        policy = load_policy(tmp_path / precision, device="cpu")
        noise = torch.randn(4, *policy.chunk_shape, generator=torch.Generator().manual_seed(1))
        chunks.append(policy.sample(batch_of(policy, 4), noise=noise).chunk)
    assert not torch.equal(*chunks)
    scale = float(chunks[0].abs().max())
    torch.testing.assert_close(*chunks, rtol=0, atol=0.15 * scale)


@pytest.fixture(scope="module")
def camera_demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of tiny images."""
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.normal(size=(24, 2)).astype(np.float32),
        "image": rng.integers(0, 255, (24, 18, 18, 3), dtype=np.uint8),
    }
    path = tmp_path_factory.mktemp("cameras") / "cameras.zarr"
    write_zarr(path, ReplayBuffer(arrays, np.array([12, 24])))
    return path


@pytest.mark.parametrize("method", METHODS.names())
def test_an_encoder_learns_with_it(
    make_config: MakeConfig,
    camera_demonstrations: Path,
    weights: Callable[[Path], dict[str, Tensor]],
    tmp_path: Path,
    method: str,
) -> None:
    """With all blocks at once, or with the only one."""
    n_blocks = n_blocks_of(method, "mlp")
    changes = {
        **options_of(method, n_blocks),
        "dataset.path": str(camera_demonstrations),
        "dataset.obs_keys": ["image"],
        "dataset.validation_ratio": 0.0,
        "encoder.name": "cameras",
        "encoder.image": {"name": "compact", "width": 4, "keypoints": 2, "crop": [16, 16]},
        "training.encoder": "auto",
        "training.encoder_steps": 3,
        "training.encoder_views": 1,
        "training.total_steps": 2 * n_blocks,
        "training.checkpoint_every": 1,
        "training.keep_checkpoints": 1000,
    }
    config = make_config(changes)
    assert config.training.encoder == ("joint" if n_blocks > 1 else "block1")
    train(config, tmp_path / "run", device="cpu", quiet=True)
    learning, *_ = sorted((tmp_path / "run" / "checkpoints").iterdir())
    first, final = weights(learning), weights(tmp_path / "run")
    moved = [name for name in first if not torch.equal(first[name], final[name])]
    assert any(name.startswith("encoder.") for name in moved)
    for n in range(n_blocks):
        assert any(name.startswith(f"blocks.{n}.") for name in moved)
    policy = load_policy(tmp_path / "run")
    policy.reset()
    assert policy.select_action(policy.fake_obs(0)).shape == (2,)
