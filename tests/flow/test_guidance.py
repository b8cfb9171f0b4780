"""Guided flows against closed forms: x | O ~ N(O 1, sigma^2 I) with O ~ N(0, tau^2)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    GuidedNetwork,
    MeanVelocityConfig,
    MeanVelocityMethod,
    Network,
    OptionalCondition,
    OUSchedule,
    OUStep,
    SolverSpec,
    fit,
    guided,
    integrate,
    log_prob,
)
from lfm_policy.flow.methods.mean_velocity import Steps

SIGMA, TAU, NONE = 0.3, 0.5, 77.0
STEPS = [OUStep(0.3), OUStep(None)]


class Exact(nn.Module):
    """The velocity of a block (flow map, clean chunk) of x given the first number of cond.

    Where that is `NONE`, it is the one of x without it; the second number is a shift that is always
    told.
    """

    def __init__(self, step: OUStep, size: int, answer: str = "velocity") -> None:
        super().__init__()
        self.n_times = 2 if answer == "mean velocity" else 1
        self._answer, self._step = answer, step
        zero, one = torch.zeros(size).double(), torch.eye(size).double()
        self._told = GaussianBlockVelocity(zero, SIGMA**2 * one, step)
        total = SIGMA**2 * one + TAU**2 * torch.ones_like(one)
        self._without = GaussianBlockVelocity(zero, total, step)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        assert cond is not None
        none = cond[:, 0] == NONE
        mean = torch.where(none, 0.0, cond[:, 0]) + cond[:, 1]
        told, without = (self._of(v, x, t, mean) for v in (self._told, self._without))
        return torch.where(none.view(-1, *(1,) * (x.ndim - 1)), without, told)

    def _of(self, velocity: GaussianBlockVelocity, x: Tensor, t: Tensor, mean: Tensor) -> Tensor:
        """Return the answer for a Gaussian of another mean: what is around it moves with it."""

        def over(value: Tensor) -> Tensor:
            return value.view(-1, *(1,) * (x.ndim - 1))

        decay = self._step.decay  # 0 in the free block
        if self._answer == "mean velocity":
            centred = x - over((1 - t[:, 0] + t[:, 0] * decay) * mean)
            return velocity.mean_velocity(centred, t) + over((decay - 1) * mean)
        centred = x - over((1 - t + t * decay) * mean)
        v = velocity(centred, t) + over((decay - 1) * mean)
        # On the line I_t = x_l + t dI, so that E[x_l | I_t] = I_t - t v.
        return x - over(t) * v if self._answer == "clean chunk" else v


def optional(step: OUStep, size: int, answer: str = "velocity") -> OptionalCondition:
    network = OptionalCondition(Exact(step, size, answer), 1)
    with torch.no_grad():
        network.none.fill_(NONE)
    return network.double()


def batch(rows: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, *shape, generator=generator, dtype=torch.float64)
    t = torch.rand(rows, generator=generator, dtype=torch.float64)
    cond = torch.randn(rows, 2, generator=generator, dtype=torch.float64)
    return x, t, cond


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("shape", [(1,), (3, 2)])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 2.5])
def test_the_guided_velocity_is_the_formula(
    step: OUStep, shape: tuple[int, ...], weight: float
) -> None:
    network = optional(step, math.prod(shape))
    x, t, cond = batch(6, shape)
    none = torch.stack([torch.full_like(cond[:, 0], NONE), cond[:, 1]], dim=1)
    told, without = network(x, t, cond), network(x, t, none)
    assert (told - without).abs().min() > 1e-6
    block = FlowBlock(guided(network, weight), step)
    found = block.velocity(x, t, cond)
    torch.testing.assert_close(found, (1 - weight) * without + weight * told)
    if weight in (0.0, 1.0):
        torch.testing.assert_close(found, told if weight else without)
    assert block.evaluations_per_answer == (1 if weight == 1 else 2)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("solver", ["euler", "heun", "dopri5"])
def test_sampling_integrates_it_and_counts_both_answers(step: OUStep, solver: str) -> None:
    network, weight = optional(step, 2), 1.7
    x, _, cond = batch(5, (2,))
    none = torch.stack([torch.full_like(cond[:, 0], NONE), cond[:, 1]], dim=1)

    def formula(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return (1 - weight) * network(x, t, none) + weight * network(x, t, cond)

    spec = SolverSpec(solver, 6)
    times = {"t_start": 1.0, "t_end": 0.0}
    block = FlowBlock(guided(network, weight), step)
    expected = integrate(formula, x, cond, **times, solver=spec)
    found = block.run(x, cond, **times, solver=spec)
    torch.testing.assert_close(found.x, expected.x)
    assert found.nfe == 2 * expected.nfe
    assert block.evaluations(spec) == (None if solver == "dopri5" else found.nfe)
    plain = FlowBlock(network, step)
    assert plain.evaluations(spec) == spec.nfe
    assert plain.run(x, cond, **times, solver=spec).x.sub(found.x).abs().max() > 1e-2


@pytest.mark.parametrize("step", STEPS)
def test_what_the_network_predicts_does_not_matter(step: OUStep) -> None:
    x, _, cond = batch(5, (2,))
    times = {"t_start": 1.0, "t_end": 0.1}
    ends = [
        FlowBlock(guided(optional(step, 2, answer), 2.0), step, method=method)
        .run(x, cond, **times, solver=SolverSpec("midpoint", 8))
        .x
        for answer, method in (("velocity", "velocity"), ("clean chunk", "data"))
    ]
    torch.testing.assert_close(*ends)


class Rule(MeanVelocityMethod):
    def target(self, network: Network, steps: Steps, average: Network) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("step", STEPS)
def test_steps_of_mean_velocities_are_combined(step: OUStep) -> None:
    network, weight = optional(step, 2, "mean velocity"), 1.5
    x, _, cond = batch(4, (2,))
    none = torch.stack([torch.full_like(cond[:, 0], NONE), cond[:, 1]], dim=1)
    rule = Rule(MeanVelocityConfig())
    one = {"t_start": 1.0, "t_end": 0.0, "solver": SolverSpec("euler", 1)}
    plain = FlowBlock(network, step, method=rule)
    told, without = (plain.run(x, c, **one).x for c in (cond, none))  # the exact flow maps
    found = FlowBlock(guided(network, weight), step, method=rule).run(x, cond, **one)
    torch.testing.assert_close(found.x, (1 - weight) * without + weight * told)
    assert found.nfe == 2


def test_a_chain_counts_every_answer_and_goes_back() -> None:
    schedule = OUSchedule((0.2,))
    blocks = [
        FlowBlock(guided(optional(schedule.step(n), 2), 1.3), schedule.step(n)) for n in (1, 2)
    ]
    chain = FlowChain(blocks)
    x, _, cond = batch(4, (2,))
    sampled = chain.sample(x, cond, solver=SolverSpec("heun", 50))
    assert sampled.nfe_per_block == (200, 200)
    back = chain.push_forward(sampled.x, cond, solver=SolverSpec("heun", 50))
    torch.testing.assert_close(back.x, x, rtol=0, atol=1e-3)
    density = log_prob(chain, sampled.x, cond, solver=SolverSpec("heun", 3))
    assert density.nfe == 2 * 2 * 6


# -- training -------------------------------------------------------------------------------------


class Told(nn.Module):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        self.cond = cond
        return self.scale * x


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_stated_share_learns_without_the_condition(share: float) -> None:
    network, rows = OptionalCondition(Told(), 3, share), 20_000
    block = FlowBlock(network, OUStep(0.1))
    cond = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0))

    def told(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        block.loss(torch.zeros(rows, 2), cond, generator=generator)
        found: Tensor = network.network.cond
        return found

    found = told(1)
    dropped = (found[:, :3] == network.none).all(1)
    deviation = math.sqrt(share * (1 - share) / rows)
    assert abs(dropped.float().mean() - share) < 4 * deviation
    assert torch.equal(found[~dropped], cond[~dropped])
    assert torch.equal(found[:, 3:], cond[:, 3:])  # what is behind stays
    assert torch.equal(told(1), found) and not torch.equal(told(2), found)
    block.eval()
    assert torch.equal(told(1), cond)


def test_the_global_generator_draws_rows_where_none_is_given() -> None:
    network = OptionalCondition(Told(), 2, 0.5)
    cond = torch.randn(64, 2)
    torch.manual_seed(3)
    first = network.dropped(cond, None)
    torch.manual_seed(3)
    assert torch.equal(network.dropped(cond, None), first)  # type: ignore[arg-type]
    assert network.dropped(None, None) is None


class Small(nn.Module):
    """v(x, t, O) for one number of each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU(), nn.Linear(48, 1)
        )

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        assert cond is not None
        velocity: Tensor = self.layers(torch.cat([x, t[:, None], cond], dim=1))
        return velocity


@pytest.mark.slow
def test_both_velocities_are_learned() -> None:
    torch.manual_seed(0)
    seen = TAU * torch.randn(20_000, 1)
    x = seen + SIGMA * torch.randn(20_000, 1)
    told = torch.cat([seen, torch.zeros_like(seen)], dim=1)
    network = OptionalCondition(Small(), 1, 0.3)
    start = network.none.detach().clone()
    chain = FlowChain([FlowBlock(network, OUStep(None))])
    fit(chain, x, told, steps=1500, learning_rate=3e-3)
    assert not torch.equal(network.none, start)
    exact, rows = optional(OUStep(None), 1), torch.randint(len(x), (2000,))
    t = 0.1 + 0.8 * torch.rand(2000)
    x_t = (1 - t[:, None]) * x[rows] + t[:, None] * torch.randn(2000, 1)
    cond = told[rows]
    none = torch.stack([torch.full_like(cond[:, 0], NONE), cond[:, 1]], dim=1)
    with torch.no_grad():
        for found, expected, other in (
            (network(x_t, t, network.left_out(cond)), none, cond),
            (network(x_t, t, cond), cond, none),
        ):
            wanted, opposite = (
                exact(x_t.double(), t.double(), c.double()) for c in (expected, other)
            )
            error = (found - wanted).square().mean()
            assert error < 0.1 * (wanted - opposite).square().mean()


# -- shapes and errors ----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    rows=st.integers(0, 4),
    size=st.integers(1, 3),
    behind=st.integers(0, 2),
    n_times=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_shape(
    shape: tuple[int, ...], rows: int, size: int, behind: int, n_times: int, dtype: torch.dtype
) -> None:
    asked: list[tuple[Tensor, Tensor, Tensor]] = []

    class Net(nn.Module):
        def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
            asked.append((x, t, cond))
            return x + cond.sum(1).view(-1, *(1,) * len(shape))

    x, cond = torch.randn(rows, *shape, dtype=dtype), torch.randn(rows, size + behind, dtype=dtype)
    t = torch.rand(rows, *(() if n_times == 1 else (2,)), dtype=dtype)
    network = OptionalCondition(Net(), size)
    found = GuidedNetwork(network, 3.0)(x, t, cond)
    assert found.shape == x.shape and found.dtype == dtype
    ((both, times, conds),) = asked  # one call for both answers
    assert both.shape == (2 * rows, *shape) and len(times) == 2 * rows
    assert torch.equal(conds[:rows, size:], cond[:, size:])
    assert torch.equal(conds[rows:], cond)
    told, without = network(x, t, cond), network(x, t, network.left_out(cond))
    torch.testing.assert_close(found, without + 3.0 * (told - without))


class Asked(nn.Module):
    """Keeps the conditions that it is asked with, and has names of its own."""

    evaluations, dropped = 1000, True

    def __init__(self) -> None:
        super().__init__()
        self.conditions: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        assert cond is not None
        self.conditions.append(cond)
        return 0 * x


def test_a_compiled_network_learns_without_conditions_too() -> None:
    asked = Asked()
    optional = OptionalCondition(asked, 1, share=0.5).train()
    compiled = torch.compile(optional, backend="eager")
    cond = torch.zeros(64, 1)
    for network in (optional, compiled):
        generator = torch.Generator().manual_seed(0)
        FlowBlock(network, OUStep(None)).loss(torch.randn(64, 2), cond, generator=generator)
    plain, other = (c != 0 for c in asked.conditions)
    assert 16 < int(plain.sum()) < 48
    torch.testing.assert_close(plain, other)


def test_a_network_may_have_attributes_of_these_names() -> None:
    block, x = FlowBlock(Asked(), OUStep(None)), torch.randn(4, 2)
    block.loss(x, torch.zeros(4, 1))
    assert block.evaluations(SolverSpec("euler", 3)) == 3


def test_what_cannot_be() -> None:
    network = OptionalCondition(Told(), 3)
    with pytest.raises(ValueError, match="Told has not learned to do without its condition"):
        guided(Told(), 1.5)
    assert guided(network, 1) is network
    with pytest.raises(ValueError, match="cond is None"):
        guided(network, 2)(torch.zeros(2, 1), torch.zeros(2), None)
    with pytest.raises(ValueError, match=r"shape \(2, 2\); expected \(B, at least 3\)"):
        network.left_out(torch.zeros(2, 2))
    for size, share in ((0, 0.1), (2, -0.1), (2, 1.1)):
        with pytest.raises(ValueError, match=f"size is {size} and share {share}"):
            OptionalCondition(Told(), size, share)
