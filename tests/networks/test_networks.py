"""What every velocity network promises, whatever its kind."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.networks import NETWORKS
from lfm_policy.networks.base import VelocityNetwork
from lfm_policy.networks.conditioning import with_more_times
from lfm_policy.networks.options import NetworkConfig
from lfm_policy.options import checked

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "time_embed_dim": 8},
    "unet1d": {
        "channels": [8, 16, 24],
        "kernel_size": 3,
        "n_groups": 4,
        "embed_dim": 16,
        "time_embed_dim": 8,
    },
    "conditional_unet1d": {
        "channels": [8, 16, 24],
        "kernel_size": 3,
        "n_groups": 4,
        "step_embed_dim": 8,
    },
    "transformer": {"width": 16, "n_layers": 2, "n_heads": 2, "expansion": 2, "time_embed_dim": 8},
}

every_network = pytest.mark.parametrize("name", NETWORKS.names())


def n_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(name: str) -> NetworkConfig:
    return NETWORKS.get(name)(**SMALL.get(name, {}))


def randomised(network: VelocityNetwork) -> VelocityNetwork:
    """Give every parameter a random value: fresh networks are zero in many places."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def inputs(
    batch: int, chunk_shape: tuple[int, ...], cond_dim: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *chunk_shape, generator=generator)
    t = torch.rand(batch, generator=generator)
    cond = torch.randn(batch, cond_dim, generator=generator) if cond_dim else None
    return x, t, cond


@every_network
def test_the_config_carries_the_name_it_is_found_by(name: str) -> None:
    config = NETWORKS.get(name)()
    assert config.name == name
    assert fields(config)[0].name == "name"
    assert all(option.metadata["description"] for option in fields(config))
    with pytest.raises(InputError, match=r"name is 'other', expected"):
        replace(config, name="other")


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'transformer'"):
        NETWORKS.get("transfomer")


@every_network
@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 3),
    horizon=st.integers(1, 19),
    action_dim=st.integers(1, 8),
    cond_dim=st.integers(0, 5),
)
def test_the_velocity_has_the_shape_of_the_chunk(
    name: str, batch: int, horizon: int, action_dim: int, cond_dim: int
) -> None:
    network = randomised(small(name).create((horizon, action_dim), cond_dim))
    x, t, cond = inputs(batch, (horizon, action_dim), cond_dim)
    with torch.no_grad():
        velocity = network(x, t, cond)
    assert velocity.shape == x.shape
    assert velocity.dtype == x.dtype
    assert velocity.isfinite().all()


@every_network
@pytest.mark.parametrize("cond_dim", [0, 3])
def test_a_fresh_network_is_the_velocity_zero(name: str, cond_dim: int) -> None:
    network = NETWORKS.get(name)().create((16, 2), cond_dim)
    assert torch.equal(network(*inputs(2, (16, 2), cond_dim)), torch.zeros(2, 16, 2))


@pytest.mark.slow
@every_network
def test_the_default_network_learns_from_its_zero_start(name: str) -> None:
    torch.manual_seed(0)
    network = small(name).create((6, 2), 3)
    x, t, cond = inputs(32, (6, 2), 3)
    assert cond is not None
    target = cond[:, None, :2] * (1.0 + t[:, None, None]) - x
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(x, t, cond) - target).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * target.square().mean()


@every_network
@pytest.mark.parametrize("cond_dim", [0, 3])
@pytest.mark.parametrize("horizon", [8, 5])
def test_the_gradient_reaches_every_parameter_and_input(
    name: str, horizon: int, cond_dim: int
) -> None:
    network = randomised(small(name).create((horizon, 2), cond_dim)).train()
    x, t, cond = inputs(4, (horizon, 2), cond_dim)
    tensors = [v.requires_grad_() for v in (x, t, cond) if v is not None]
    network(x, t, cond).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
    for tensor in tensors:
        assert tensor.grad is not None
        assert bool((tensor.grad.reshape(4, -1).abs().sum(1) > 0).all())


@every_network
def test_rows_of_a_batch_do_not_see_one_another(name: str) -> None:
    network = randomised(small(name).create((7, 3), 4)).double()
    x, t, cond = (v.double() for v in inputs(5, (7, 3), 4) if v is not None)
    with torch.no_grad():
        together = network(x, t, cond)
        alone = torch.cat([network(x[i : i + 1], t[i : i + 1], cond[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@every_network
def test_the_same_seed_gives_the_same_network_and_the_same_numbers(name: str) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(small(name).create((8, 2), 3))
    first, second = (network.state_dict() for network in networks)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    arguments = inputs(3, (8, 2), 3)
    network = randomised(networks[0])
    assert torch.equal(network(*arguments), network(*arguments))


@every_network
def test_all_that_a_checkpoint_needs_is_in_the_parameters(name: str) -> None:
    network = randomised(small(name).create((8, 2), 3))
    assert set(network.state_dict()) == {key for key, _ in network.named_parameters()}
    other = small(name).create((8, 2), 3).eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(*inputs(2, (8, 2), 3)), other(*inputs(2, (8, 2), 3)))


@every_network
def test_parameters_can_be_counted_before_anything_is_allocated(name: str) -> None:
    config = NETWORKS.get(name)()
    with torch.device("meta"):
        promised = config.create((16, 2), 44)
    built = config.create((16, 2), 44)
    assert all(parameter.is_meta for parameter in promised.parameters())
    assert n_parameters(promised) == n_parameters(built)
    assert {k: v.shape for k, v in promised.state_dict().items()} == {
        k: v.shape for k, v in built.state_dict().items()
    }


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [("mlp", 550_000, 700_000), ("unet1d", 3e6, 5e6), ("transformer", 1e6, 1.5e6)],
)
def test_the_default_sizes(name: str, lowest: float, highest: float) -> None:
    assert lowest < n_parameters(NETWORKS.get(name)().create((16, 2), 44)) < highest


@every_network
def test_double_precision_is_kept_throughout(name: str) -> None:
    network = randomised(small(name).create((8, 2), 3))
    x, t, cond = (v.double() for v in inputs(2, (8, 2), 3) if v is not None)
    single = network(x.float(), t.float(), cond.float())
    double = network.double()(x, t, cond)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-4)


@every_network
def test_the_exact_jacobian_is_available(name: str) -> None:
    """The log-likelihood needs the trace of dv/dx for each sample."""
    network = randomised(small(name).create((4, 2), 3)).double()
    x, t, cond = (v.double() for v in inputs(3, (4, 2), 3) if v is not None)

    def single(x_i: Tensor, t_i: Tensor, cond_i: Tensor) -> Tensor:
        velocity: Tensor = network(x_i[None], t_i[None], cond_i[None])
        return velocity[0].flatten()

    def of_sample(x_i: Tensor, t_i: Tensor, cond_i: Tensor) -> Tensor:
        return torch.func.jacrev(single)(x_i, t_i, cond_i).flatten(1)

    jacobian = torch.func.vmap(of_sample)(x, t, cond)
    step = 1e-6 * torch.eye(8, dtype=torch.float64).reshape(8, 4, 2)
    for i in range(3):
        columns = [
            (single(x[i] + s, t[i], cond[i]) - single(x[i] - s, t[i], cond[i])) / 2e-6 for s in step
        ]
        torch.testing.assert_close(jacobian[i], torch.stack(columns, 1), rtol=1e-5, atol=1e-7)


@every_network
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # inside torch.func
def test_derivatives_along_a_path_can_be_trained_on(name: str) -> None:
    """Flow maps are distilled with dv/dt along the flow: forward mode, then backward."""
    network = randomised(small(name).create((4, 2), 3)).double()
    x, t, cond = (v.double() for v in inputs(3, (4, 2), 3) if v is not None)
    x_dot, t_dot = torch.ones_like(x), torch.full_like(t, 0.5)
    velocity, derivative = torch.func.jvp(
        lambda x_t, t_t: network(x_t, t_t, cond), (x, t), (x_dot, t_dot)
    )
    step = 1e-6
    ahead = network(x + step * x_dot, t + step * t_dot, cond)
    behind = network(x - step * x_dot, t - step * t_dot, cond)
    torch.testing.assert_close(derivative, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)
    (velocity + derivative).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@every_network
@pytest.mark.parametrize("cond_dim", [0, 3])
def test_it_exports_as_one_graph_with_a_free_batch(name: str, cond_dim: int) -> None:
    network = randomised(small(name).create((6, 2), cond_dim))
    batch = torch.export.Dim("batch", min=1, max=4096)
    dynamic = {0: batch}
    program = torch.export.export(
        network,
        inputs(3, (6, 2), cond_dim),
        dynamic_shapes=(dynamic, dynamic, dynamic if cond_dim else None),
        strict=False,
    )
    for size in (1, 5):
        arguments = inputs(size, (6, 2), cond_dim, seed=size)
        torch.testing.assert_close(program.module()(*arguments), network(*arguments))


@every_network
def test_wrong_inputs_are_refused_with_both_shapes(name: str) -> None:
    with_cond = small(name).create((8, 2), 3)
    without = small(name).create((8, 2), 0)
    x, t, cond = inputs(2, (8, 2), 3)
    assert cond is not None
    with pytest.raises(ValueError, match=r"cond is None, .* \(batch, 3\)"):
        with_cond(x, t, None)
    with pytest.raises(ValueError, match=r"cond has shape \(2, 3\), .* expects cond=None"):
        without(x, t, cond)
    with pytest.raises(ValueError, match=r"cond has shape \(2, 2\), .* \(batch, 3\)"):
        with_cond(x, t, cond[:, :2])
    with pytest.raises(ValueError, match=r"x has shape \(2, 7, 2\), .* \(batch, 8, 2\)"):
        with_cond(x[:, 1:], t, cond)


@every_network
@pytest.mark.parametrize(
    ("chunk_shape", "cond_dim", "message"),
    [
        ((), 0, "at least one dimension"),
        ((16, 0), 0, "sizes of at least 1"),
        ((1 << 20, 2), 0, "numbers in all"),
        ((16, 2), -1, "cond_dim -1"),
        ((16, 2), 1 << 40, "cond_dim 1099511627776"),
    ],
)
def test_shapes_that_no_robot_has_are_refused(
    name: str, chunk_shape: tuple[int, ...], cond_dim: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        NETWORKS.get(name)().create(chunk_shape, cond_dim)


@pytest.mark.parametrize("name", ["unet1d", "transformer"])
@pytest.mark.parametrize("chunk_shape", [(4,), (4, 2, 2)])
def test_networks_over_sequences_need_sequences(name: str, chunk_shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"works on \(horizon, action_dim\)"):
        NETWORKS.get(name)().create(chunk_shape, 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"width": 0}, r"MLPConfig.width is 0, expected an integer from 1"),
        ("mlp", {"width": 10**9}, r"MLPConfig.width is 1000000000, expected"),
        ("mlp", {"width": True}, r"MLPConfig.width: found True, expected int"),
        ("mlp", {"width": 1.5}, r"MLPConfig.width: found 1.5, expected int"),
        ("mlp", {"n_layers": 10**9}, r"n_layers is 1000000000"),
        ("mlp", {"expansion": -2}, r"expansion is -2"),
        ("mlp", {"dropout": 1.0}, r"dropout is 1.0, expected a number from 0"),
        ("mlp", {"dropout": float("nan")}, r"dropout is nan"),
        ("mlp", {"time_embed_dim": 7}, r"time_embed_dim is 7, .* multiple of 2"),
        ("unet1d", {"channels": []}, r"channels has 0 elements, expected 1 to 8"),
        ("unet1d", {"channels": [64] * 9}, r"has 9 elements, expected 1 to 8"),
        ("unet1d", {"channels": [64, 100]}, r"multiple of 8 \(n_groups must divide"),
        ("unet1d", {"channels": 64}, r"channels: found 64, expected list"),
        ("unet1d", {"kernel_size": 4}, r"kernel_size is 4, expected an odd number"),
        ("unet1d", {"n_groups": 0}, r"n_groups is 0"),
        ("unet1d", {"embed_dim": 0}, r"embed_dim is 0"),
        ("transformer", {"n_heads": 3}, r"n_heads is 3, expected a divisor of width 128"),
        ("transformer", {"n_layers": 0}, r"n_layers is 0"),
        ("transformer", {"dropout": -0.1}, r"dropout is -0.1"),
    ],
)
def test_bad_options_print_their_value(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NETWORKS.get(name)(**options)


@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_dropout_acts_in_training_only(name: str) -> None:
    config = NETWORKS.get(name)(**SMALL[name], dropout=0.5)
    network = randomised(config.create((8, 2), 3))
    arguments = inputs(4, (8, 2), 3)
    assert torch.equal(network(*arguments), network(*arguments))
    network.train()
    assert not torch.equal(network(*arguments), network(*arguments))


@every_network
def test_options_survive_a_round_trip_through_yaml(name: str) -> None:
    config = small(name)
    text = yaml.safe_dump(asdict(config))
    assert checked(NETWORKS.get(name), yaml.safe_load(text)) == config


@every_network
@pytest.mark.parametrize("cond_dim", [0, 5])
def test_a_network_of_two_times_may_begin_as_one_of_one(name: str, cond_dim: int) -> None:
    one = randomised(small(name).create((16, 2), cond_dim, 1))
    two = randomised(small(name).create((16, 2), cond_dim, 2))
    two.load_state_dict(with_more_times(two, one.state_dict()))
    x, t, cond = inputs(3, (16, 2), cond_dim)
    for s in (torch.zeros(3), t):
        torch.testing.assert_close(two(x, torch.stack([t, s], 1), cond), one(x, t, cond))
    again = with_more_times(two, two.state_dict())
    assert all(torch.equal(again[key], weight) for key, weight in two.state_dict().items())
