"""Training with prefixes: what is learnt, kept, resumed and distilled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy import load_policy
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation import distill
from lfm_policy.errors import InputError
from lfm_policy.policy.prefix import PrefixCondition
from lfm_policy.training import train
from lfm_policy.training.rows.prefixes import TrainingPrefixes

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
AssertSame = Callable[[Path, Path], None]
StoppedAt = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def two_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of episodes that go one of two ways, all the time, which nothing but actions tells."""
    generator = np.random.default_rng(0)
    signs = np.repeat(generator.choice([-1.0, 1.0], 40), 12)
    arrays = {
        "action": (signs[:, None] + 0.05 * generator.normal(size=(480, 1))).astype(np.float32),
        "position": generator.normal(size=(480, 1)).astype(np.float32),
    }
    path = tmp_path_factory.mktemp("data") / "two_ways.zarr"
    write_zarr(path, ReplayBuffer(arrays, np.arange(12, 481, 12)))
    return path


def sampled(checkpoint: Path, prefix: np.ndarray | None) -> np.ndarray:
    """Return the free actions of 64 chunks, (64, n)."""
    policy = load_policy(checkpoint)
    batch = {"position": np.zeros((64, 2, 1), np.float32)}
    policy.sample_seed(0)
    return policy.sample(batch, prefix=prefix).chunk[:, 3:, 0].numpy()


@pytest.mark.parametrize("block_training", ["sequential", "parallel"])
def test_chunks_and_one_step_students_go_on_the_way_they_are_given(
    two_ways: Path, make_config: MakeConfig, tmp_path: Path, block_training: str
) -> None:
    config = make_config(
        {
            "dataset.path": str(two_ways),
            "policy.horizon": 6,
            "policy.max_prefix": 2,
            "network.width": 48,
            "sampler.nfe": 16,
            "push_forward.solver": "heun",
            "push_forward.n_steps": 8,
            "push_forward.batch_size": 512,
            "training.total_steps": 1000,
            "training.batch_size": 64,
            "training.block_training": block_training,
        }
    )
    teacher = train(config, tmp_path / "teacher", device="cpu", quiet=True)
    checkpoints = [teacher]
    if block_training == "sequential":
        overrides = ["training.total_steps=400", "distill.samples=2", "distill.teacher_steps=8"]
        checkpoints += [
            distill(
                tmp_path / "teacher",
                tmp_path / f"student{nfe}",
                nfe=nfe,
                overrides=[*overrides, f"distill.inputs={inputs}"],
                device="cpu",
                quiet=True,
            )
            for nfe, inputs in ((1, "teacher"), (2, "corrected"))
        ]
    for checkpoint in checkpoints:
        free = sampled(checkpoint, None).mean(axis=1)
        assert 0.2 < np.mean(free > 0) < 0.8, "without a prefix both ways are taken"
        for sign in (-1.0, 1.0):
            rest = sampled(checkpoint, np.full((64, 2, 1), sign, np.float32)).mean(axis=1)
            assert np.mean(np.sign(rest) == sign) > 0.95


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.block_training": "parallel"},
        {"encoder": {"name": "state", "hidden": [6]}},
        {
            "encoder": {"name": "state", "hidden": [6]},
            "training.encoder": "joint",
            "training.encoder_steps": 4,
        },
        {"flow.coupling": "independent"},
    ],
    ids=str,
)
def test_it_works_with_every_way_to_train(
    make_config: MakeConfig, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = make_config({"policy.max_prefix": 1, **changes})
    policy = load_policy(train(config, tmp_path / "run", device="cpu", quiet=True))
    assert policy.max_prefix == 1
    batch = {"position": np.zeros((3, 2, 3), np.float32)}
    prefix = np.full((3, 1, 2), 0.25, np.float32)
    np.testing.assert_array_equal(
        policy.predict_action_chunk(batch, prefix=prefix)[:, 0].numpy(), prefix[:, 0]
    )


@pytest.mark.parametrize(("block", "step"), [(1, 7), (2, 5)])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    make_config: MakeConfig,
    tmp_path: Path,
    stopped_at: StoppedAt,
    assert_same_weights: AssertSame,
    block: int,
    step: int,
) -> None:
    config = make_config({"policy.max_prefix": 2})
    train(config, tmp_path / "whole", device="cpu", quiet=True)
    with stopped_at(block, step):
        train(config, tmp_path / "cut", device="cpu", quiet=True)
    train(config, tmp_path / "cut", device="cpu", resume=True, quiet=True)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")


def test_rows_keep_their_lengths_and_all_lengths_occur() -> None:
    condition = PrefixCondition(max_prefix=3, first=1, action_dim=2)
    chunks = torch.ones(400, 6, 2)
    rows = torch.arange(400)
    prefixes = TrainingPrefixes(condition, 400, seed=1)
    features = prefixes.features(rows, chunks)
    assert torch.equal(features, TrainingPrefixes(condition, 400, seed=1).features(rows, chunks))
    assert torch.equal(features[[7, 3]], prefixes.features(torch.tensor([7, 3]), chunks[:2]))
    lengths = features[:, -3:].sum(dim=1).long()
    counts = torch.bincount(lengths, minlength=4)
    assert 160 < counts[0] < 240
    assert counts[1:].min() > 40
    torch.manual_seed(0)
    drawn = prefixes.features(rows, chunks, random=True)
    assert not torch.equal(drawn, features)


def test_a_student_has_the_prefixes_of_its_teacher(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config({"policy.max_prefix": 1}), tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(InputError, match="max_prefix is 2, expected the teacher's 1"):
        distill(
            tmp_path / "run", nfe=1, overrides=["policy.max_prefix=2"], device="cpu", quiet=True
        )
