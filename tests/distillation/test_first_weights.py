"""What a student block starts with."""

from __future__ import annotations

import pytest
import torch

from lfm_policy.config import load_config
from lfm_policy.distillation.first_weights import start_from_block
from lfm_policy.policy.model import PolicyModel
from lfm_runtime.policy.spec import DataSpec


def model_of(obs: int, *options: str) -> PolicyModel:
    torch.manual_seed(obs)
    return PolicyModel(load_config({}, ["network.width=16", *options]), DataSpec({"o": (obs,)}, 2))


def test_of_another_condition_only_what_weighs_it_is_its_own() -> None:
    teacher, student, before = model_of(3), model_of(5), model_of(5)
    start_from_block(student.blocks[0], teacher.chain().block(1))
    theirs, mine = teacher.blocks[0].state_dict(), student.blocks[0].state_dict()
    drawn = before.blocks[0].state_dict()
    name = "embedding.hidden.weight"
    n_times = theirs[name].shape[1] - 2 * 3
    for key in theirs.keys() - {name}:
        assert torch.equal(mine[key], theirs[key]), key
    assert torch.equal(mine[name][:, :n_times], theirs[name][:, :n_times])
    assert torch.equal(mine[name][:, n_times:], drawn[name][:, n_times:])


@pytest.mark.parametrize("option", ["network.width=24", "network.n_layers=4"])
def test_weights_of_another_network_are_left(option: str) -> None:
    teacher, student, before = model_of(3), model_of(5, option), model_of(5, option)
    start_from_block(student.blocks[0], teacher.chain().block(1))
    drawn = before.blocks[0].state_dict()
    assert all(torch.equal(v, drawn[k]) for k, v in student.blocks[0].state_dict().items())
