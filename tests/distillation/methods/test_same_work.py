"""Losses of students whose gradient steps a GPU may record and replay."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch

from lfm_policy.config.distillation import DistillConfig
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.distillation.methods import METHODS
from lfm_policy.flow import FlowBlock, FlowChain, OUStep, SolverSpec
from lfm_policy.networks.options import MLPConfig

OperationsOf = Callable[[Callable[[], object]], list[str]]
Looks = Callable[[list[str]], list[str]]


@pytest.mark.parametrize("name", ["regression", "rectified"])
def test_steps_do_the_same_work_for_every_batch(
    name: str, operations_of: OperationsOf, looks: Looks
) -> None:
    network = MLPConfig(width=8, n_layers=1, time_embed_dim=8).create((4, 2), 3, 1)
    block = FlowBlock(network, OUStep(None))
    group = TeacherGroup(FlowChain([block]), Fraction(0), Fraction(1), SolverSpec("euler", 2))
    options = DistillConfig(method=name, error_scale=0.1)
    loss = METHODS.get(name)(network, group, options, torch.ones(4))
    assert loss.same_work
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(2):
        y, path = torch.randn(2, 5, 4, 2, generator=generator)
        batch = y, path[:, None], torch.randn(5, 3, generator=generator)
        found.append(operations_of(lambda batch=batch: loss(*batch).backward()))
        loss.zero_grad(set_to_none=True)
    assert found[0] == found[1]
    assert not looks(found[0])


@pytest.mark.parametrize("name", ["progressive", "consistency", "distribution", "flow_map"])
def test_the_others_do_not_say_so(name: str) -> None:
    assert not METHODS.get(name).same_work
