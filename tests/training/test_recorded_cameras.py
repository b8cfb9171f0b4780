"""Gradient steps with cameras, whose frames a GPU holds: the same work for every batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lfm_policy.encoders.image as image_module
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.encoders.augment import _crops_by_index
from lfm_policy.training import BlockPlan, Run
from lfm_policy.training.recorded import side_by_side
from lfm_policy.training.run import JOINT
from lfm_policy.training.trainer import Trainer

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
OperationsOf = Callable[[Callable[[], object]], list[str]]
Looks = Callable[[list[str]], list[str]]
MakeRun = Callable[..., Run]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

COLOURS = {"shift": 2, "brightness": 0.1, "contrast": 0.2, "saturation": 0.1}
ENCODERS: dict[str, dict[str, Any]] = {
    "compact": {"name": "compact", "width": 8, "keypoints": 3, "crop": [32, 32], **COLOURS},
    "resnet18": {"name": "resnet18", "width": 16, "crop": [32, 34]},
    "told": {"name": "compact", "width": 8, "keypoints": 3, "crop": [32, 32]},  # with targets
    "resized": {
        "name": "compact",
        "width": 8,
        "keypoints": 3,
        "resize": [36, 36],
        "crop": [32, 32],
    },
}


@pytest.fixture(scope="module")
def frames_zarr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a camera of 40 x 40 pixels and a position."""
    rng = np.random.default_rng(0)
    arrays = {
        "action": rng.normal(size=(40, 2)).astype(np.float32),
        "img": rng.integers(0, 255, (40, 40, 40, 3), np.uint8),
        "position": rng.normal(size=(40, 3)).astype(np.float32),
        "place": rng.normal(size=(40, 2)).astype(np.float32),
    }
    path = tmp_path_factory.mktemp("frames") / "frames.zarr"
    write_zarr(path, ReplayBuffer(arrays, np.array([20, 40])))
    return path


@pytest.fixture
def make_run(make_config: MakeConfig, frames_zarr: Path, tmp_path: Path) -> MakeRun:
    """Return a function that makes a run whose first part is an encoder with two blocks."""

    def make(encoder: str, device: str = "cpu", **training: Any) -> Run:
        changes = {
            "dataset.path": str(frames_zarr),
            "dataset.obs_keys": ["img", "position"],
            "encoder.name": "cameras",
            "encoder.image": ENCODERS[encoder],
            "auxiliary.keys": ["place"] if encoder == "told" else [],
            "training.encoder": "joint",
            "training.encoder_steps": 40,
            "training.encoder_batch_size": 6,
        }
        changes |= {f"training.{key}": value for key, value in training.items()}
        name = f"{encoder}-{device}-{len(list(tmp_path.iterdir()))}"
        return Run(make_config(changes), tmp_path / name, device=device, quiet=True)

    return make


@pytest.mark.parametrize("encoder", ENCODERS)
def test_steps_on_frames_in_memory_look_at_no_values(
    make_run: MakeRun,
    encoder: str,
    monkeypatch: pytest.MonkeyPatch,
    operations_of: OperationsOf,
    looks: Looks,
) -> None:
    part = BlockPlan(make_run(encoder)).part(JOINT)
    assert part.loss.same_work
    assert not part.rows.same_work  # frames of a CPU are in their file
    monkeypatch.setattr(WindowDataset, "in_memory", property(lambda self: True))
    assert part.rows.same_work
    # As on a GPU, where crops are fetched by index.
    monkeypatch.setattr(image_module, "crop_images", _crops_by_index)
    found = []
    for begin in (0, 4, 9):
        batch = part.rows.batch(torch.arange(begin, begin + 6), training=True)
        found.append(operations_of(lambda batch=batch: part.loss(*batch).backward()))
        part.loss.zero_grad(set_to_none=True)
    assert found[1] == found[2]
    assert "convolution" in found[1]
    assert not looks(found[1])


def test_works_side_by_side_are_done_in_order_on_a_cpu() -> None:
    done: list[int] = []

    def work(number: int) -> Tensor:
        done.append(number)
        return torch.tensor(float(number))

    results = side_by_side([lambda n=n: work(n) for n in range(3)], torch.device("cpu"))
    assert [float(result) for result in results] == done == [0, 1, 2]


# -- on a GPU ----------------------------------------------------------------------------------


def _losses(run: Run, steps: int) -> Tensor:
    trainer = Trainer(BlockPlan(run).part(JOINT), run.accelerator, seed=1)
    assert (trainer._recorded is not None) == run.options.cuda_graphs
    losses = [trainer.train_step()[0].clone() for _ in range(steps)]
    return torch.stack(losses).cpu()


@needs_gpu
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_replayed_steps_train_as_others_do(make_run: MakeRun, encoder: str, precision: str) -> None:
    found = _losses(make_run(encoder, "cuda", mixed_precision=precision), 12)
    plain = make_run(encoder, "cuda", mixed_precision=precision, cuda_graphs=False)
    bounds = {"no": (5e-3, 1e-4), "bf16": (5e-2, 2e-2)}[precision]
    torch.testing.assert_close(found, _losses(plain, 12), rtol=bounds[0], atol=bounds[1])


@needs_gpu
def test_frames_that_stay_in_their_file_are_replayed_too(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _losses(make_run("compact", "cuda"), 12)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    run = make_run("compact", "cuda")
    assert not run.train_set.in_memory
    torch.testing.assert_close(_losses(run, 12), expected, rtol=5e-3, atol=1e-4)
