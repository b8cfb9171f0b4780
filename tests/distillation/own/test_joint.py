"""The loss in which a student's encoder learns with all its blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lfm_policy.config import load_config
from lfm_policy.config.training import TrainingConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.windows import WindowIndex
from lfm_policy.distillation.own.joint import JointRegression, Ways
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_runtime.policy.spec import DataSpec

QUIET = TrainingConfig(obs_noise=0.0)


def make_windows() -> WindowDataset:
    rng = np.random.default_rng(0)
    arrays = {"action": rng.normal(size=(20, 2)), "pos": rng.normal(size=(20, 3))}
    ends = np.array([9, 20])
    return WindowDataset(
        ReplayBuffer(arrays, ends),
        Normalizer.fit(arrays, "identity"),
        WindowIndex(ends, 2, 4, 2),
        ("pos",),
    )


@pytest.mark.parametrize("inputs", ["teacher", "corrected"])
def test_every_block_learns_where_the_teacher_is_by_then(inputs: str) -> None:
    torch.manual_seed(0)
    options = [
        "flow.n_blocks=3",
        "network.width=16",
        "encoder.hidden=[8]",
        f"distill.inputs={inputs}",
    ]
    config = load_config({"policy": {"horizon": 5, "n_action_steps": 3}}, options)
    model = PolicyModel(config, DataSpec({"pose": (3,)}, 2))
    for block in model.blocks:
        for layer in (block.proj_out, block.modulation.linear):  # both start at zero
            torch.nn.init.normal_(layer.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    loss = JointRegression(model, [None] * 3, config.distill)  # type: ignore[list-item]
    noise, ends = torch.randn(4, 5, 2), torch.randn(4, 3, 5, 2)
    obs = {"pose": torch.randn(4, 2, 3)}
    found = loss(noise, obs, ends, None)
    with torch.no_grad():
        x, cond, errors, chain = noise, model.encoder(obs), [], model.chain()
        for n in (3, 2, 1):
            reached = chain.sample(x, cond, solver=SolverSpec("euler", 1), first=n, last=n).x
            errors.append((reached - ends[:, n - 1]).square().mean())
            x = reached if inputs == "corrected" else ends[:, n - 1]
        torch.testing.assert_close(found, torch.stack(errors).mean())
    found.backward()
    trained = loss.trained_parameters()
    assert {name.split(".")[0] for name in trained} == {"encoder", "blocks"}
    gradients = [p.grad for name, p in trained.items() if name.startswith("encoder")]
    assert gradients and all(g is not None and bool(g.any()) for g in gradients)


@pytest.mark.parametrize("draws", [1, 2, 4])
def test_ways_of_a_window_share_one_look_at_it(draws: int) -> None:
    windows = make_windows()
    n_windows, samples = len(windows), 4
    # Row r belongs to window r mod M: the numbers say which window and which sample it is.
    numbers = torch.arange(n_windows * samples, dtype=torch.float32)
    noise = numbers[:, None, None].expand(-1, 4, 2)
    rows = Ways(noise, noise[:, None], windows, ObsNoise(QUIET, windows), None, draws=draws)
    assert len(rows) == n_windows * samples // draws
    idx = torch.arange(len(rows))
    found, obs, ends, prefix = rows.batch(idx, training=True)
    assert prefix is None
    assert len(obs["pos"]) == len(idx) and len(found) == len(ends) == len(idx) * draws
    torch.testing.assert_close(obs, windows.gather_obs(idx % n_windows))
    window = (found[:, 0, 0] % n_windows).view(-1, draws)
    assert torch.equal(window, (idx % n_windows)[:, None].expand(-1, draws).float())
    assert sorted(found[:, 0, 0].tolist()) == numbers.tolist()  # each way once
    assert torch.equal(found, ends[:, 0])


def test_a_loss_of_several_ways_is_that_of_as_many_looks() -> None:
    torch.manual_seed(0)
    config = load_config(
        {"policy": {"horizon": 5, "n_action_steps": 3}},
        ["flow.n_blocks=2", "network.width=16", "encoder.hidden=[8]"],
    )
    model = PolicyModel(config, DataSpec({"pose": (3,)}, 2))
    for block in model.blocks:
        for layer in (block.proj_out, block.modulation.linear):
            torch.nn.init.normal_(layer.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    loss = JointRegression(model, [None] * 2, config.distill)  # type: ignore[list-item]
    noise, ends = torch.randn(12, 5, 2), torch.randn(12, 2, 5, 2)
    obs = {"pose": torch.randn(4, 2, 3)}
    repeated = {"pose": obs["pose"].repeat_interleave(3, dim=0)}
    torch.testing.assert_close(loss(noise, obs, ends, None), loss(noise, repeated, ends, None))
