"""The networks of a policy as its configuration describes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lfm_policy.config import config_from_dict
from lfm_policy.errors import InputError
from lfm_policy.flow import LinearInterpolant, OptimalCoupling, TrigonometricInterpolant
from lfm_policy.policy import DataSpec, Policy, PolicyModel
from lfm_policy.policy.model import ou_schedule, tensor_shapes

SPEC = DataSpec({"a": (3,)}, 2)


def config_of(**sections: Any) -> Any:
    return config_from_dict({"sampler": {"nfe": 64}, **sections}, "test")


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"flow": {"n_blocks": 3}},
        {"encoder": {"name": "state", "hidden": [8]}},
        {"network": {"name": "unet1d", "channels": [8, 16]}, "flow": {"n_blocks": 2}},
        {"network": {"name": "transformer", "width": 8}, "policy": {"horizon": 20}},
        {"flow": {"n_blocks": 2}, "block_networks": [{"width": 8}, {"n_layers": 3}]},
    ],
)
def test_shapes_without_the_model(sections: dict[str, Any]) -> None:
    config = config_of(**sections)
    expected = {k: tuple(v.shape) for k, v in PolicyModel(config, SPEC).state_dict().items()}
    found = tensor_shapes(config, SPEC, max_tensors=1000, max_numbers=10_000_000)
    assert found == expected


def test_limits_of_shapes() -> None:
    config = config_of(flow={"n_blocks": 64}, network={"name": "transformer", "n_layers": 256})
    with pytest.raises(InputError, match="more than .* or 20,000 tensors"):
        tensor_shapes(config, SPEC, max_tensors=20_000, max_numbers=10**12)
    with pytest.raises(InputError, match="more than 1,000 parameters"):
        tensor_shapes(config, SPEC, max_tensors=20_000, max_numbers=1000)


def test_networks_that_cannot_be_made() -> None:
    with pytest.raises(InputError, match="at most 1048576 numbers"):
        tensor_shapes(config_of(), DataSpec({}, 10**6), max_tensors=10, max_numbers=10)
    with pytest.raises(InputError, match="observation 'a' has shape"):
        tensor_shapes(config_of(), DataSpec({"a": (9,) * 4}, 2), max_tensors=10, max_numbers=10)


def test_parameter_counts(policy: Policy) -> None:
    counts = policy.model.parameter_counts()
    assert list(counts) == ["encoder", "block 1", "block 2", "total"]
    assert counts["encoder"] == 0
    assert counts["total"] == sum(p.numel() for p in policy.model.parameters())
    assert counts["block 1"] == counts["block 2"] == counts["total"] / 2


def test_blocks_have_their_own_networks_and_interpolants() -> None:
    config = config_of(
        flow={"n_blocks": 2, "block_interpolants": ["trigonometric", "linear"]},
        block_networks=[{"width": 32}, {"width": 16, "n_layers": 1}],
    )
    model = PolicyModel(config, SPEC)
    assert model.blocks[0].proj_in.weight.shape[0] == 32
    assert model.blocks[1].proj_in.weight.shape[0] == 16
    assert isinstance(model.flow_block(1).interpolant, TrigonometricInterpolant)
    assert isinstance(model.flow_block(2).interpolant, LinearInterpolant)
    assert model.flow_block(2).step.is_free and not model.flow_block(1).step.is_free
    assert model.chain().n_blocks == model.n_blocks == 2


def test_the_optimal_coupling_has_the_configured_weight() -> None:
    x_l, cond = torch.randn(64, 16, 2), torch.randn(64, 3)
    drawn = {}
    for weight in (0.0, 0.5):
        flow = {"coupling": "optimal", "coupling_weight": weight, "n_blocks": 1}
        block = PolicyModel(config_of(flow=flow), SPEC).flow_block(1)
        torch.manual_seed(0)
        drawn[weight] = block.noise_end(x_l, cond)
        torch.manual_seed(0)
        expected = OptimalCoupling(weight)(x_l, block.step, cond=cond)
        assert torch.equal(drawn[weight], expected)
    assert not torch.equal(drawn[0.0], drawn[0.5])


def test_schedule() -> None:
    flow = config_of(flow={"n_blocks": 4, "c": 0.1, "rho": 2.0}).flow
    assert ou_schedule(flow).step_sizes == pytest.approx((0.1, 0.2, 0.4))
    flow = config_of(flow={"n_blocks": 3, "step_sizes": [0.5, 0.25]}).flow
    assert ou_schedule(flow).step_sizes == (0.5, 0.25)


@pytest.mark.parametrize("time", [{"name": "uniform"}, {"name": "beta", "alpha": 2.0}])
def test_losses_reach_every_weight_of_a_block(
    make_policy: Callable[..., Policy], time: dict[str, Any]
) -> None:
    flow = {"n_blocks": 2, "c": 0.2, "time": time}
    model = make_policy(flow=flow).model.requires_grad_(True)
    cond = torch.randn(4, model.encoder.cond_dim)
    model.flow_block(2).loss(torch.randn(4, *model.chunk_shape), cond).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.blocks[1].parameters())
    assert all(p.grad is None for p in model.blocks[0].parameters())


def test_another_velocity_may_stand_in_for_a_network(policy: Policy) -> None:
    block = policy.model.flow_block(1, velocity=lambda x, t, cond: x)
    x = torch.randn(2, *policy.model.chunk_shape)
    assert torch.equal(block.velocity(x, torch.zeros(2), None), x)
