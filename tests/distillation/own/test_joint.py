"""The loss in which a student's encoder learns with all its blocks."""

from __future__ import annotations

import pytest
import torch

from lfm_policy.config import load_config
from lfm_policy.distillation.own.joint import JointRegression
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.model import PolicyModel
from lfm_runtime.policy.spec import DataSpec


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
