"""Policies that learn without observations too: their tensors, and their samplers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.flow import OptionalCondition
from lfm_policy.policy import Policy, PolicyModel, load_policy
from lfm_policy.policy.model import tensor_shapes
from lfm_policy.training.start.weights import draw_initial_weights

from .conftest import training_summary

MakePolicy = Callable[..., Policy]

GUIDED: dict[str, Any] = {"flow": {"n_blocks": 2, "c": 0.2, "drop_obs": 0.1}}
STEPS = {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3, "clip_actions": False}


def rows(policy: Policy, n: int = 4) -> dict[str, Any]:
    return {"batch": policy.fake_batch(n), "noise": torch.randn(n, *policy.chunk_shape)}


def test_tensors_keep_their_names_without_it(make_policy: MakePolicy) -> None:
    plain, guided = make_policy().model, make_policy(**GUIDED).model
    assert not any("none" in name or ".network." in name for name in plain.state_dict())
    inside = {
        name.replace(".network.", ".") for name in guided.state_dict() if not name.endswith(".none")
    }
    assert inside == plain.state_dict().keys()
    assert guided.state_dict()["blocks.1.none"].shape == (guided.encoder.cond_dim,)


@pytest.mark.parametrize("prefix", [0, 2])
def test_shapes_are_known_before_a_model_is_made(make_policy: MakePolicy, prefix: int) -> None:
    policy = make_policy(**GUIDED, policy={**STEPS, "max_prefix": prefix})
    limits = {"max_tensors": 1000, "max_numbers": 10**6}
    shapes = tensor_shapes(policy.config, policy.spec, **limits)
    state = policy.model.state_dict()
    assert shapes == {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_networks_start_as_they_do_without_it(make_policy: MakePolicy) -> None:
    models = []
    for sections in ({}, GUIDED):
        policy = make_policy(**sections)
        model = PolicyModel(policy.config, policy.spec)
        draw_initial_weights(model, policy.config, policy.spec)
        models.append(model)
    plain, guided = models
    for before, now in zip(plain.blocks, guided.blocks, strict=True):
        assert isinstance(now, OptionalCondition)
        for name, tensor in before.state_dict().items():
            assert torch.equal(now.network.state_dict()[name], tensor)
    one, two = (guided.state_dict()[f"blocks.{n}.none"] for n in (0, 1))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("prefix", [0, 2])
def test_a_step_is_the_formula_and_the_prefix_stays(
    make_policy: MakePolicy, weight: float, prefix: int
) -> None:
    flow = {"n_blocks": 1, "drop_obs": 0.1}
    policy = make_policy(flow=flow, policy={**STEPS, "max_prefix": prefix})
    policy.set_sampler(nfe=2, guidance=weight)
    assert (policy.nfe, policy.nfe_per_block, policy.guidance) == (2, (2,), weight)
    given = rows(policy)
    committed = np.full((4, prefix, 3), 200.0) if prefix else None
    found = policy.sample(**given, prefix=committed)
    assert found.nfe == 2
    (block,) = policy.model.blocks
    assert isinstance(block, OptionalCondition)
    obs = policy.pipeline.normalized(
        {key: torch.from_numpy(value) for key, value in given["batch"].items()}
    )
    with torch.no_grad():
        cond = policy.pipeline.condition(obs, policy._prefix(committed, 4))
        assert cond is not None
        none = torch.cat(
            [block.none.expand(4, -1), cond[:, policy.model.encoder.cond_dim :]], dim=1
        )
        assert none.shape == cond.shape
        assert prefix == 0 or none[:, -1].eq(1).all()  # the mask of the last committed action
        x, t = given["noise"], torch.ones(4)
        v = (1 - weight) * block(x, t, none) + weight * block(x, t, cond)
        expected = policy.normalizer.unnormalize("action", x - v)
    chunk = found.chunk
    if prefix:
        assert (chunk[:, 1 : 1 + prefix] == 200).all()
        chunk, expected = chunk[:, 1 + prefix :], expected[:, 1 + prefix :]
    torch.testing.assert_close(chunk, expected, rtol=1e-4, atol=1e-2)


def test_weight_1_is_no_guidance(make_policy: MakePolicy) -> None:
    policy = make_policy(**GUIDED)
    given = rows(policy)
    policy.set_sampler(guidance=2.0)
    guided = policy.sample(**given)
    policy.set_sampler(guidance=1.0)
    plain = policy.sample(**given)
    policy.set_sampler()
    assert torch.equal(policy.sample(**given).chunk, plain.chunk)
    assert (plain.nfe, guided.nfe) == (4, 4)
    assert not torch.allclose(plain.chunk, guided.chunk)


def test_evaluations_are_shared_out_in_pairs(make_policy: MakePolicy) -> None:
    policy = make_policy(**GUIDED)
    policy.set_sampler(nfe=12, solver="heun", guidance=1.5)
    assert policy.nfe_per_block == (4, 8)
    assert [spec.n_steps for spec in policy.pipeline.solvers] == [1, 2]
    policy.set_sampler(solver="dopri5", guidance=1.5)
    assert policy.nfe is None
    given = rows(policy)
    adaptive = policy.sample(**given)
    assert adaptive.nfe % 4 == 0  # an even number in each block
    with pytest.raises(
        InputError, match=r"nfe is 3, expected a multiple of 2 .*'euler' with guidance 1.5 takes 2"
    ):
        policy.set_sampler(nfe=3, guidance=1.5)
    assert policy.solver == "dopri5"  # as it was


def test_what_is_refused(make_policy: MakePolicy) -> None:
    reason = r"guidance is 1.5, expected 1: flow.drop_obs is 0.*train with flow.drop_obs=0.1"
    with pytest.raises(InputError, match=reason):
        make_policy().set_sampler(guidance=1.5)
    with pytest.raises(InputError, match=f"sampler.{reason}"):
        make_policy(sampler={"guidance": 1.5})
    for bad in (-1.0, 21.0, float("nan")):
        with pytest.raises(InputError, match="guidance is .*, expected"):
            make_policy(**GUIDED).set_sampler(guidance=bad)
    with pytest.raises(InputError, match="there are no observations that could be left out"):
        make_policy(**GUIDED, obs_shapes={})
    with pytest.raises(InputError, match="sampler.nfe is 2, .* a multiple of 2 of at least 4"):
        make_policy(**GUIDED, sampler={"nfe": 2, "guidance": 1.5})


def test_checkpoints_keep_it(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy(**GUIDED)
    policy.info |= training_summary(policy.config, policy.model)
    policy.set_sampler(nfe=8, guidance=1.75, noise_scale=0.5)
    folder = policy.save(tmp_path / "saved")
    loaded = load_policy(folder)
    assert (loaded.guidance, loaded.nfe, loaded.metadata["guidance"]) == (1.75, 8, 1.75)
    given = rows(policy)
    assert torch.equal(loaded.sample(**given).chunk, policy.sample(**given).chunk)
    copied = loaded.pipeline.copy("cpu")
    assert copied.sampler == loaded.sampler and copied.sampler.guidance == 1.75
    # One that does not say so has none.
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["flow"]["drop_obs"] == 0.1
