"""Large frames are resized once, for the cache; the policy takes them as the robot sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.errors import InputError
from lfm_policy.exporting import check
from lfm_policy.policy import load_policy, read_header
from lfm_policy.policy.checkpoint import CONFIG_FILE
from lfm_policy.training import train
from lfm_policy.training.run import Run
from lfm_policy.training.start.words import describe_run
from lfm_runtime.disk.stamped import write_stamped

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]

LENGTHS = (11, 9, 12)
SHAPES = {"top": (120, 160, 3), "wrist": (20, 24, 3)}
COMPACT = {"name": "compact", "width": 4, "keypoints": 3, "crop": [0.9, 0.9]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    steps = sum(LENGTHS)
    arrays = {
        "action": rng.normal(size=(steps, 2)),
        **{key: rng.integers(0, 255, (steps, *s), np.uint8) for key, s in SHAPES.items()},
    }
    path = tmp_path_factory.mktemp("cameras") / "cameras.zarr"
    write_zarr(path, ReplayBuffer(arrays, np.cumsum(LENGTHS)))
    return path


@pytest.fixture(scope="module")
def camera_config(make_config: MakeConfig, store: Path) -> MakeConfig:
    def make(**image: Any) -> ExperimentConfig:
        return make_config(
            {
                "dataset.path": str(store),
                "dataset.obs_keys": list(SHAPES),
                "encoder.name": "cameras",
                "encoder.image": {**COMPACT, **image},
                "training.encoder": "joint",
                "training.encoder_steps": 2,
                "training.total_steps": 4,
            }
        )

    return make


@pytest.fixture(scope="module")
def trained(camera_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "auto"
    train(camera_config(), folder, device="cpu", quiet=True)
    return folder


def test_a_checkpoint_knows_the_size_and_what_the_robot_sees(trained: Path) -> None:
    header = read_header(trained)
    assert dict(header.spec.obs_shapes) == SHAPES
    encoder = header.config.encoder
    assert isinstance(encoder, CamerasConfig)
    assert encoder.cameras == {"top": {"resize": [96, 128]}} and encoder.image == COMPACT
    shapes = {
        tuple(np.load(path, mmap_mode="r").shape[1:])
        for path in (trained.parent / "image-cache").glob("*/frames.npy")
    }
    assert shapes == {(96, 128, 3), SHAPES["wrist"]}


def test_training_and_policy_see_the_same(trained: Path, camera_config: MakeConfig) -> None:
    """Of the cache the policy gets what it makes itself of the robot's frames, to the level."""
    run = Run(camera_config(), trained, device="cpu", resume=True, quiet=True)
    recorded = run.config.dataset.load(trained.parent / "full")
    policy = load_policy(trained)
    index = torch.arange(8)
    steps = run.train_set.index.obs_indices[index].numpy()
    raw = {key: np.asarray(recorded.arrays[key][steps]) for key in SHAPES}
    cached = run.train_set.gather_obs(index)
    assert cached["top"].shape[2:] == (96, 128, 3) and raw["top"].shape[2:] == SHAPES["top"]
    noise = torch.randn(len(index), *policy.chunk_shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seen = policy.encode(raw)
        kept = policy.pipeline.condition(cached, None)
        assert seen is not None and kept is not None
        # Hardly a pixel lies so near to a limit that the last bit decides: then one level of 255.
        assert (seen - kept).abs().max() <= 1e-3
        actions = policy.pipeline.sample(cached, noise, None).chunk
        difference = (policy.sample(raw, noise=noise).chunk - actions).abs().max()
        assert difference <= 1e-3 * float(np.ptp(recorded.arrays["action"]))
    with pytest.raises(InputError, match="'top' has shape"):  # a robot sends what it was trained on
        policy.sample({**raw, "top": cached["top"].numpy()})


def test_it_is_said_and_can_be_turned_off(camera_config: MakeConfig, tmp_path: Path) -> None:
    run = Run(camera_config(), tmp_path / "run", device="cpu", quiet=True)
    assert (
        "frames are resized: top 120 x 160 to 96 x 128 (encoder.image.resize=[] leaves them as "
        in describe_run(run)
    )
    full = Run(camera_config(resize=[]), tmp_path / "full", device="cpu", quiet=True)
    assert "resized" not in describe_run(full) and full.config == camera_config(resize=[])
    assert full.train_set.gather_obs(torch.arange(1))["top"].shape[2:] == SHAPES["top"]
    # Of which size the cached frames are makes no other demonstrations of them.
    assert full.spec == run.spec


def test_a_run_goes_on_and_has_students(
    trained: Path, camera_config: MakeConfig, store: Path, tmp_path: Path
) -> None:
    assert train(camera_config(), trained, device="cpu", resume=True, quiet=True) == (
        trained / "checkpoints" / "final"
    )
    with pytest.raises(InputError, match="with other options: encoder.cameras.top.resize was"):
        train(camera_config(resize=[]), trained, device="cpu", resume=True, quiet=True)
    student = distill(
        trained,
        tmp_path / "student",
        nfe=1,
        # What a robot recorded is as large as what it sees.
        overrides=["training.total_steps=2", "distill.samples=1", f"distill.recording={store}"],
        device="cpu",
        quiet=True,
    )
    assert read_header(student).config.encoder == read_header(trained).config.encoder


def test_checkpoints_of_before_leave_large_frames_as_they_are(
    camera_config: MakeConfig, tmp_path: Path
) -> None:
    """They were written without the key ``resize``, which meant that nothing is resized."""
    folder = tmp_path / "run"
    checkpoint = train(camera_config(resize=[]), folder, device="cpu", quiet=True)
    raw = {
        key: np.random.default_rng(0).integers(0, 255, (2, 2, *shape), np.uint8)
        for key, shape in SHAPES.items()
    }
    noise = torch.zeros(2, *load_policy(folder).chunk_shape)
    expected = load_policy(folder).sample(raw, noise=noise).chunk
    content = json.loads((checkpoint / CONFIG_FILE).read_text())
    del content["config"]["encoder"]["image"]["resize"], content["sha256"]
    write_stamped(checkpoint / CONFIG_FILE, content)
    assert torch.equal(load_policy(folder).sample(raw, noise=noise).chunk, expected)
    encoder = read_header(folder).config.encoder
    assert encoder.frame_size("top", SHAPES["top"]) == SHAPES["top"][:2]
    assert encoder.frame_size("wrist", SHAPES["wrist"]) == SHAPES["wrist"][:2]


def test_frames_in_memory_are_resized_too(
    camera_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a format that knows nothing of the cache."""
    config = camera_config()
    buffer = config.dataset.load(tmp_path / "cache")
    arrays = {key: np.array(array) for key, array in buffer.arrays.items()}
    memory = replace(buffer, arrays=arrays, recorded={})
    monkeypatch.setattr(type(config.dataset), "load", lambda self, cache, quiet: memory)
    run = Run(config, tmp_path / "memory", device="cpu", quiet=True)
    monkeypatch.undo()
    other = Run(config, tmp_path / "other", device="cpu", quiet=True)
    assert run.spec == other.spec and dict(run.spec.obs_shapes) == SHAPES
    index = torch.arange(len(run.train_set))
    kept, cached = run.train_set.gather_obs(index), other.train_set.gather_obs(index)
    assert all(torch.equal(kept[key], cached[key]) for key in SHAPES)


def test_an_export_is_checked_on_the_frames_of_a_few_episodes(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full size, which the cache of the training does not hold."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "FEW_EPISODES", 1)
    observations = check.real_observations(load_policy(trained), 5)
    assert observations.batch["top"].shape == (5, 2, *SHAPES["top"])
    (n_frames,) = {
        len(np.load(path, mmap_mode="r")) for path in tmp_path.rglob("image-cache/*/frames.npy")
    }
    assert n_frames == LENGTHS[0]
