"""Losses of blocks against closed forms, and against what the training wrote down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lfm_policy import load_policy
from lfm_policy.checking.blocks import check_blocks
from lfm_policy.checking.demonstrations import instants_of, load_demonstrations
from lfm_policy.checking.subject import CheckpointSubject
from lfm_policy.config import config_from_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.flow import SolverSpec, gaussian_network, push_gaussian
from lfm_policy.flow.chain import run_in_batches
from lfm_policy.policy import DataSpec, Policy, PolicyModel
from lfm_policy.training.blocks import BlockLoss
from lfm_policy.training.rows.data import load_datasets

LENGTH, MEAN, STD, GAMMA = 9, 0.3, 0.5, 0.2


def policy_of(method: str = "velocity", **flow: object) -> Policy:
    """Return a policy of chunks of one action, which knows that they are N(MEAN, STD^2)."""
    options = {
        "policy": {"n_obs_steps": 1, "horizon": 1, "n_action_steps": 1},
        "normalization": {"action": "identity"},
        "network": {"name": "mlp", "width": 4, "n_layers": 1, "time_embed_dim": 2},
        "flow": {"n_blocks": 2, "step_sizes": [GAMMA], "method": method, **flow},
        "sampler": {"nfe": 2},
    }
    config = config_from_dict(options, "test")
    spec = DataSpec({"seen": (1,)}, 1)
    model = PolicyModel(config, spec)
    arrays = {"action": np.array([[-9.0], [9.0]]), "seen": np.array([[-1.0], [1.0]])}
    policy = Policy(config, spec, model, Normalizer.fit(arrays, {"action": "identity"}))
    mean, cov = torch.tensor([MEAN]).double(), torch.tensor([[STD**2]]).double()
    for n in (1, 2):
        block = model.flow_block(n)
        known = gaussian_network(block, *push_gaussian(mean, cov, model.schedule.marginal(n - 1)))
        model.blocks[n - 1].forward = known  # type: ignore[assignment,method-assign]
    return policy


def subject_of(policy: Policy, n_episodes: int = 300) -> tuple[CheckpointSubject, np.ndarray]:
    """Return the policy at instants whose actions are drawn from that distribution."""
    generator = np.random.default_rng(1)
    steps = n_episodes * LENGTH
    arrays = {
        "action": MEAN + STD * generator.normal(size=(steps, 1)),
        "seen": generator.normal(size=(steps, 1)),
    }
    buffer = ReplayBuffer(arrays, np.arange(1, n_episodes + 1) * LENGTH)
    instants = instants_of(buffer, np.arange(n_episodes), policy)
    return CheckpointSubject(policy, instants), arrays["action"][:, None]


def irreducible(n: int, *, clean_chunk: bool = False) -> float:
    """Return E Var(dI/dt | I_t), or E Var(x_l | I_t), of a block of N(MEAN, STD^2), t uniform."""
    t = (np.arange(20_000) + 0.5) / 20_000
    if n == 1:  # I = s x_l + t b z
        a, b = np.exp(-GAMMA), np.sqrt(1 - np.exp(-2 * GAMMA))
        variance, s, d_s, r, d_r = STD**2, 1 - t + t * a, a - 1, t * b, b
    else:  # I = (1 - t) x_l + t z, x_l pushed through block 1
        variance = np.exp(-2 * GAMMA) * STD**2 + 1 - np.exp(-2 * GAMMA)
        s, d_s, r, d_r = 1 - t, -1, t, 1
    both = s**2 * variance + r**2
    if clean_chunk:
        return float((variance * r**2 / both).mean())
    return float((variance * (s * d_r - d_s * r) ** 2 / both).mean())


@pytest.mark.parametrize("method", ["velocity", "data", "flow_map"])
def test_losses_of_a_policy_that_knows_the_distribution(method: str) -> None:
    policy = policy_of(method)
    subject, reference = subject_of(policy)
    for block in check_blocks(subject, subject, reference, seed=0):
        expected = irreducible(block.block, clean_chunk=method == "data")
        # There is nothing to see, so all four are what cannot be known.
        for loss in (block.held_out, block.training, block.ignorant):
            assert loss == pytest.approx(expected, rel=0.08)
        # 512 chunks of its own have a variance that is 6% beside, give or take.
        assert block.own == pytest.approx(expected, rel=0.15)
        assert block.ignorant == pytest.approx(block.held_out, rel=0.02)


def test_nothing_is_said_of_ignorance_where_pairs_depend_on_the_batch() -> None:
    policy = policy_of(coupling="optimal")
    subject, reference = subject_of(policy)
    for block in check_blocks(subject, None, reference, seed=0):
        assert block.ignorant is None and block.held_out is not None


def test_own_chunks_are_what_the_policy_believes() -> None:
    policy = policy_of()
    subject, reference = subject_of(policy)
    # The demonstrations lie twice as far apart as it believes.
    wide = instants_of(
        replace(
            subject.instants.buffer,
            arrays={
                "action": MEAN + 2 * (subject.instants.buffer.arrays["action"] - MEAN),
                "seen": subject.instants.buffer.arrays["seen"],
            },
        ),
        np.arange(300),
        policy,
    )
    found = check_blocks(
        CheckpointSubject(policy, wide), None, MEAN + 2 * (reference - MEAN), seed=0
    )
    for block in found:
        assert block.own == pytest.approx(irreducible(block.block), rel=0.15)
        assert block.training is None
        assert block.held_out > 1.1 * block.own and block.held_out > block.ignorant


def test_losses_are_those_of_the_training(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lfm_policy.checking.blocks.DRAWS", 100)
    policy = load_policy(small_run)
    config = policy.config
    demonstrations = load_demonstrations("run", policy, config)
    instants = instants_of(demonstrations.buffer, demonstrations.checked, policy)
    subject = CheckpointSubject(policy, instants)
    # The same rows and the same networks, by the code of the training.
    bundle = load_datasets(config)
    assert bundle.validation is not None
    windows = bundle.validation.gather_action(torch.arange(len(bundle.validation)))
    chunks = policy.normalizer.normalize("action", torch.from_numpy(instants.demonstrated))
    rows = [
        int((windows - chunk).abs().amax((1, 2)).argmin()) for chunk in chunks[instants.trained]
    ]
    x, condition = windows[rows], bundle.validation.gather_obs(torch.tensor(rows))
    torch.manual_seed(0)
    found = check_blocks(subject, None, np.zeros((9, *policy.chunk_shape)) + 250, seed=0)
    with torch.no_grad():
        for block, record in zip(found, policy.info["blocks"], strict=True):
            loss = BlockLoss(policy.model, block.block, trains_encoder=False)
            draws = [float(loss(x, condition, None, None)) for _ in range(100)]
            assert block.held_out == pytest.approx(np.mean(draws), rel=0.1)
            assert block.recorded["validation_loss"] == record["validation_loss"]
            solver = SolverSpec("euler", 2)  # of the configuration
            cond = policy.model.encoder(condition)
            x = run_in_batches(policy.model.flow_block(block.block), x, cond, solver, None).x


def test_students_have_the_losses_that_were_recorded(small_run: Path) -> None:
    policy = load_policy(small_run)
    options = replace(policy.config.distill, method="regression")
    policy.config = replace(policy.config, distill=options)
    instants = instants_of(policy.config.dataset.load(), np.array([2]), policy)
    found = check_blocks(
        CheckpointSubject(policy, instants), None, np.zeros((9, *policy.chunk_shape)), seed=0
    )
    assert [block.held_out for block in found] == [None, None]
    assert [block.recorded["loss"] for block in found] == [
        record["loss"] for record in policy.info["blocks"]
    ]
