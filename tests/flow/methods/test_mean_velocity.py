"""What networks of two times are asked and taught, whatever the rule: closed forms and numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lfm_policy.flow import (
    BlockPath,
    FlowBlock,
    FlowChain,
    FlowMapConfig,
    GaussianBlockVelocity,
    MeanFlowConfig,
    MeanVelocityConfig,
    MeanVelocityMethod,
    Network,
    OUSchedule,
    OUStep,
    SolverSpec,
)
from lfm_policy.flow.methods.mean_velocity import Steps, mean_velocity, u_and_derivative
from lfm_policy.flow.paths.interpolant import LINEAR
from lfm_policy.networks import NETWORKS

RULES = [
    MeanFlowConfig(),
    FlowMapConfig(rule="lagrangian"),
    FlowMapConfig(rule="eulerian"),
    FlowMapConfig(rule="semigroup"),
]
NAMES = ["mean_flow", "lagrangian", "eulerian", "semigroup"]
NETWORK_OPTIONS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 16, "n_layers": 2, "time_embed_dim": 8, "dropout": 0.2},
    "unet1d": {"channels": [8, 16], "n_groups": 4, "embed_dim": 16, "time_embed_dim": 8},
    "transformer": {"width": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.2},
}
rules = pytest.mark.parametrize("config", RULES, ids=NAMES)
networks = pytest.mark.parametrize("name", NETWORK_OPTIONS)


def network_of(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a network of chunks (6, 2) with a condition of 3 numbers, no layer of it zero."""
    torch.manual_seed(0)
    network = NETWORKS.get(name)(**NETWORK_OPTIONS[name]).create((6, 2), 3, 2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.to(dtype)


def batch(n: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, 2, generator=generator, dtype=dtype)
    return x, torch.randn(n, 3, generator=generator, dtype=dtype)


def steps_of(dtype: torch.dtype = torch.float32) -> Steps:
    x, cond = batch(dtype=dtype)
    generator = torch.Generator().manual_seed(2)
    times = torch.rand(len(x), 2, generator=generator, dtype=dtype).sort(1).values
    return Steps(x, torch.randn_like(x), times[:, 1], times[:, 0], cond)


def loss_of(network: Any, config: MeanVelocityConfig) -> Tensor:
    """Return the loss of a block, always with the same random numbers."""
    block = FlowBlock(network, OUStep(0.3), method=config)
    x, cond = batch()
    torch.manual_seed(5)
    return block.loss(x, cond, generator=torch.Generator().manual_seed(3))


def gradients(network: nn.Module, loss: Tensor) -> Tensor:
    """Return the gradient of all weights as one vector."""
    found = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([gradient.flatten() for gradient in found])


class Seen(MeanVelocityMethod):
    """A method that keeps the pairs it is asked with."""

    def __init__(self, config: MeanVelocityConfig) -> None:
        super().__init__(config)
        self.steps: list[Steps] = []

    def target(self, network: Network, steps: Steps, average: Network) -> Tensor:
        assert not torch.is_grad_enabled()
        self.steps.append(steps)
        return torch.zeros_like(steps.x)


# -- pairs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("equal", "whole"), [(0.5, 0.0), (0.5, 0.5), (0.25, 1.0), (0.0, 0.3)])
@pytest.mark.parametrize("interpolant", ["linear", "trigonometric"])
def test_shares_of_the_pairs(equal: float, whole: float, interpolant: str) -> None:
    method = Seen(MeanVelocityConfig(equal_share=equal, whole_share=whole))
    asked: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        asked.append((x, t))
        return torch.zeros_like(x)

    block = FlowBlock(network, OUStep(None), interpolant, method=method)
    x_l = torch.full((200, 2), 5.0, dtype=torch.float64)
    block.loss(x_l, generator=torch.Generator().manual_seed(0))
    x, times = asked[0]
    t, s = times.unbind(1)
    n_equal, n_whole = round(equal * 200), round(whole * (200 - round(equal * 200)))
    assert torch.equal(t[:n_equal], s[:n_equal]) and bool((s <= t).all())
    through = slice(n_equal, n_equal + n_whole)
    assert bool((t[through] == 1).all()) and bool((s[through] == 0).all())
    assert bool((t[n_equal + n_whole :] < 1).all())
    # At t = 1 there is nothing left of the data.
    assert float(x[through].abs().mean()) < 1.5 or not n_whole
    steps = method.steps[0]
    assert len(steps.t) == 200 - n_equal
    torch.testing.assert_close(steps.x, x[n_equal:])
    torch.testing.assert_close(torch.stack([steps.t, steps.s], 1), times[n_equal:])


@given(n=st.integers(2, 60), share=st.sampled_from([0.1, 0.25, 0.5, 0.75]))
def test_both_kinds_lie_evenly_in_a_batch_with_their_conditions(n: int, share: float) -> None:
    method = Seen(MeanVelocityConfig(equal_share=share, whole_share=0.0))
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def network(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        assert cond is not None
        asked.append((x, t, cond))
        return torch.zeros_like(x)

    rows = torch.arange(float(n))[:, None]
    FlowBlock(network, OUStep(None), method=method).loss(
        1000 * rows, rows, generator=torch.Generator().manual_seed(0)
    )
    x, times, cond = asked[0]
    assert sorted(cond[:, 0].tolist()) == rows[:, 0].tolist()
    data = (1 - times[:, :1]) * 1000 * cond  # of the linear path, without its noise
    assert float((x - data).abs().max()) < 10
    equal = cond[times[:, 0] == times[:, 1], 0].sort().values
    assert 1 <= len(equal) < n and abs(len(equal) - share * n) <= 1
    gaps = equal.diff()
    assert not len(gaps) or float(gaps.max() - gaps.min()) <= 1


def test_times_that_steps_lead_to_are_uniform() -> None:
    method = Seen(MeanVelocityConfig(equal_share=0.0))
    block = FlowBlock(lambda x, t, cond: torch.zeros_like(x), OUStep(None), method=method)
    block.loss(torch.zeros(20_000, 1), generator=torch.Generator().manual_seed(0))
    share = method.steps[0].s / method.steps[0].t
    quantiles = torch.quantile(share, torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(quantiles, torch.tensor([0.1, 0.5, 0.9]), atol=0.02, rtol=0)


@rules
def test_equal_times_alone_are_flow_matching(config: MeanVelocityConfig) -> None:
    velocity = GaussianBlockVelocity(torch.zeros(2), torch.eye(2) * 0.3, OUStep(0.2))
    alone = replace(config, equal_share=1.0, error_scale=0.0)
    x_l = torch.randn(64, 2)
    losses = [
        FlowBlock(network, OUStep(0.2), method=method).loss(
            x_l, generator=torch.Generator().manual_seed(0)
        )
        for network, method in ((velocity.mean_velocity, alone), (velocity, "velocity"))
    ]
    torch.testing.assert_close(losses[0], losses[1])


@rules
def test_a_wrong_shape_is_said(config: MeanVelocityConfig) -> None:
    block = FlowBlock(lambda x, t, cond: x[:, :1], OUStep(None), method=config)
    with pytest.raises((ValueError, RuntimeError), match="shape|size"):
        block.loss(torch.randn(8, 3))


# -- sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 3])
@pytest.mark.parametrize("step_sizes", [(), (0.1,), (0.01, 0.1)])
@pytest.mark.parametrize("interpolant", ["linear", "trigonometric"])
def test_one_evaluation_of_each_block_is_the_whole_chain(
    gaussian_chain: Callable[..., Any],
    push_moments: Callable[..., tuple[Tensor, Tensor]],
    dimension: int,
    step_sizes: tuple[float, ...],
    interpolant: str,
) -> None:
    made = gaussian_chain(dimension, step_sizes, interpolant)
    schedule = OUSchedule(step_sizes)
    blocks = []
    for n, (mean, cov) in enumerate(made.marginals[:-1], start=1):
        exact = GaussianBlockVelocity(mean, cov, schedule.step(n), interpolant)
        block = FlowBlock(exact.mean_velocity, schedule.step(n), interpolant, method="mean_flow")
        x = torch.randn(5, dimension, dtype=torch.float64)
        one = block.run(x, t_start=1.0, t_end=0.0, solver=SolverSpec("euler", 1))
        assert one.nfe == 1
        torch.testing.assert_close(one.x, exact.flow_map(x, torch.ones(5), torch.zeros(5)))
        several = block.run(x, t_start=1.0, t_end=0.0, solver=SolverSpec("euler", 3))
        torch.testing.assert_close(several.x, one.x)
        blocks.append(block)
    chain = FlowChain(blocks)
    zero, identity = torch.zeros(dimension).double(), torch.eye(dimension).double()
    found = push_moments(lambda z: chain.sample(z, solver=SolverSpec("euler", 1)).x, zero, identity)
    torch.testing.assert_close(found, made.marginals[0], atol=1e-9, rtol=1e-7)


def test_other_solvers_and_the_way_to_the_noise_take_the_velocity() -> None:
    exact = GaussianBlockVelocity(torch.zeros(2), torch.eye(2) * 0.3, OUStep(0.4))
    block = FlowBlock(exact.mean_velocity, OUStep(0.4), method="mean_flow")
    x, t = torch.randn(6, 2), torch.rand(6)
    torch.testing.assert_close(block.velocity(x, t, None), exact(x, t))
    pushed = block.run(x, t_start=0.0, t_end=1.0, solver=SolverSpec("dopri5", rtol=1e-6, atol=1e-6))
    torch.testing.assert_close(pushed.x, exact.flow_map(x), atol=1e-4, rtol=1e-4)
    pushed = block.run(x, t_start=0.0, t_end=1.0, solver=SolverSpec("euler", 1))
    torch.testing.assert_close(pushed.x, x + exact(x, torch.zeros(6)))


# -- derivatives ----------------------------------------------------------------------------------


@networks
@pytest.mark.parametrize("training", [False, True], ids=["eval", "dropout"])
def test_derivatives_are_finite_differences(name: str, training: bool) -> None:
    """Of all networks, and of one draw of dropout: what is dropped is the same all along."""
    network = network_of(name, torch.float64).train(training)
    steps = steps_of(torch.float64)

    def u(h: float) -> Tensor:
        torch.manual_seed(0)
        ahead = (steps.x + h * steps.dx, steps.t + h, steps.s + 0.5 * h, steps.cond)
        return mean_velocity(network, *ahead)

    h = 1e-5
    torch.manual_seed(0)
    value, change = u_and_derivative(network, steps, dx=steps.dx, dt=1.0, ds=0.5)
    torch.testing.assert_close(value, u(0.0))
    torch.testing.assert_close(change, (u(h) - u(-h)) / (2 * h), atol=1e-4, rtol=1e-4)


@networks
def test_derivatives_are_in_full_precision_under_autocast(name: str) -> None:
    network, steps = network_of(name).eval(), steps_of()
    assert steps.cond is not None
    for dtype in (torch.bfloat16, torch.float16):
        # As an encoder under autocast gives it.
        half = steps._replace(cond=steps.cond.to(dtype))
        single = steps._replace(cond=steps.cond.to(dtype).float())
        expected = u_and_derivative(network, single, dx=steps.dx, dt=1.0)
        with torch.autocast("cpu", dtype=dtype):
            found = u_and_derivative(network, half, dx=steps.dx, dt=1.0)
        torch.testing.assert_close(found, expected)


# -- gradients ------------------------------------------------------------------------------------


@rules
@networks
def test_gradients_under_autocast_are_those_of_single_precision(
    name: str, config: MeanVelocityConfig
) -> None:
    network = network_of(name).eval()
    expected = gradients(network, loss_of(network, config))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(network, config)
    assert loss.dtype == torch.float32
    found = gradients(network, loss)
    assert float((found - expected).norm()) < 0.05 * float(expected.norm())


@rules
@networks
def test_losses_train_with_dropout(name: str, config: MeanVelocityConfig) -> None:
    network = network_of(name).train()
    found = gradients(network, loss_of(network, config))
    assert bool(torch.isfinite(found).all()) and float(found.norm()) > 0


@rules
def test_a_compiled_network_has_the_same_loss(config: MeanVelocityConfig) -> None:
    network = network_of("mlp").eval()
    expected = loss_of(network, config)
    loss = loss_of(torch.compile(network, backend="eager"), config)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients(network, loss), gradients(network, expected))


@rules
def test_there_is_no_gradient_through_the_target(config: MeanVelocityConfig) -> None:
    network, method = network_of("mlp", torch.float64).eval(), config.create()
    assert isinstance(method, MeanVelocityMethod)
    steps = steps_of(torch.float64)
    assert steps.cond is not None
    cond = steps.cond.clone().requires_grad_(True)
    asked = steps._replace(cond=cond)
    with torch.no_grad():
        target = method.target(network, steps, network)
    output = method.output(network, asked, 0)
    by_hand = (output - target).square().mean()

    class NoDraws(type(method)):  # type: ignore[misc]
        def times(self, t: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
            return steps.t, steps.s

    alone = replace(config, equal_share=0.0, error_scale=0.0)
    t = steps.t[:, None, None]
    ends = steps.x - t * steps.dx, steps.x + (1 - t) * steps.dx
    sample = LINEAR.interpolate(*ends, steps.t)
    path = BlockPath(OUStep(None), LINEAR)
    loss = NoDraws(alone).loss(network, sample, cond, path)
    weights = [cond, *network.parameters()]
    for found, expected in zip(
        torch.autograd.grad(loss, weights), torch.autograd.grad(by_hand, weights), strict=True
    ):
        torch.testing.assert_close(found, expected)
