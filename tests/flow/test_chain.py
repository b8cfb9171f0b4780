from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.flow import (
    COUPLINGS,
    INTERPOLANTS,
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    OUSchedule,
    OUStep,
    SolverSpec,
    push_gaussian,
)

SCHEDULES = [(), (0.1,), (0.3, 0.45, 0.675), (0.02, 0.2)]
EXACT = SolverSpec("dopri5", rtol=1e-8, atol=1e-8)
# Solver and the tolerance, absolute and relative, that moments through a whole chain keep to.
SOLVERS_WITH_TOLERANCE = [
    (EXACT, 2e-7),
    (SolverSpec("midpoint", 32), 1e-3),
    (SolverSpec("heun", 32), 4e-3),
    (SolverSpec("euler", 256), 4e-2),
]


@pytest.mark.parametrize("dimension", [1, 2, 6])
@pytest.mark.parametrize("step_sizes", SCHEDULES, ids=str)
@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
@pytest.mark.parametrize(
    ("solver", "tolerance"), SOLVERS_WITH_TOLERANCE, ids=["dopri5", "midpoint", "heun", "euler"]
)
def test_exact_velocities_move_the_gaussian(
    gaussian_chain: Callable[..., Any],
    push_moments: Callable[..., tuple[Tensor, Tensor]],
    dimension: int,
    step_sizes: tuple[float, ...],
    interpolant: str,
    solver: SolverSpec,
    tolerance: float,
) -> None:
    """Every prefix pushes p_0 to p_n = N(a mu, a^2 Sigma + b^2 I); sampling gives p_0 back."""
    made = gaussian_chain(dimension, step_sizes, interpolant)
    chain = made.chain
    for n in range(1, chain.n_blocks + 1):
        pushed = push_moments(
            lambda x, n=n: chain.push_forward(x, solver=solver, last=n).x, *made.marginals[0]
        )
        torch.testing.assert_close(pushed, made.marginals[n], atol=tolerance, rtol=tolerance)
    zero, eye = torch.zeros(dimension).double(), torch.eye(dimension).double()
    sampled = push_moments(lambda x: chain.sample(x, solver=solver).x, zero, eye)
    torch.testing.assert_close(sampled, made.marginals[0], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("coupling", COUPLINGS.names())
@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
def test_every_coupling_moves_the_gaussian(
    gaussian_chain: Callable[..., Any],
    push_moments: Callable[..., tuple[Tensor, Tensor]],
    coupling: str,
    interpolant: str,
) -> None:
    made = gaussian_chain(3, (0.3, 0.45), interpolant, coupling)
    pushed = push_moments(
        lambda x: made.chain.push_forward(x, solver=EXACT, last=2).x, *made.marginals[0]
    )
    torch.testing.assert_close(pushed, made.marginals[2], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("step_sizes", SCHEDULES, ids=str)
@pytest.mark.parametrize("interpolant", INTERPOLANTS.names())
@pytest.mark.parametrize(
    ("solver", "tolerance"), SOLVERS_WITH_TOLERANCE, ids=["dopri5", "midpoint", "heun", "euler"]
)
def test_sampling_inverts_the_push_forward(
    gaussian_chain: Callable[..., Any],
    step_sizes: tuple[float, ...],
    interpolant: str,
    solver: SolverSpec,
    tolerance: float,
) -> None:
    chain = gaussian_chain(4, step_sizes, interpolant).chain
    x = torch.randn(7, 2, 2, dtype=torch.float64)
    noise = chain.push_forward(x, solver=solver).x
    torch.testing.assert_close(
        chain.sample(noise, solver=solver).x, x, atol=tolerance * 3, rtol=tolerance
    )


def test_different_conditions_give_different_gaussians(
    gaussian_chain: Callable[..., Any], push_moments: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """Velocities that choose between two Gaussians by the condition sample each of them."""
    made = [gaussian_chain(2, (0.2,), seed=seed) for seed in (0, 1)]

    def velocity(n: int) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        def chosen(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            assert cond is not None
            both = [m.chain.blocks[n].velocity(x, t, None) for m in made]
            return torch.where(cond > 0, both[1], both[0])

        return chosen

    schedule = OUSchedule((0.2,))
    chain = FlowChain([FlowBlock(velocity(n), schedule.step(n + 1)) for n in range(2)])
    zero, eye = torch.zeros(2).double(), torch.eye(2).double()
    for value, one in zip((-1.0, 1.0), made, strict=True):
        cond = torch.full((3, 1), value, dtype=torch.float64)
        sampled = push_moments(
            lambda x, cond=cond: chain.sample(x, cond, solver=EXACT).x, zero, eye
        )
        torch.testing.assert_close(sampled, one.marginals[0], atol=1e-6, rtol=1e-6)
        noise = chain.push_forward(sampled[0][None], cond[:1], solver=EXACT).x
        torch.testing.assert_close(noise, zero[None], atol=1e-6, rtol=0)


def test_evaluations_per_block(gaussian_chain: Callable[..., Any]) -> None:
    chain = gaussian_chain(2, (0.1, 0.2)).chain
    solvers = [SolverSpec("euler", 3), SolverSpec("heun", 2), SolverSpec("midpoint", 5)]
    noise = torch.randn(4, 2, dtype=torch.float64)
    result = chain.sample(noise, solver=solvers)
    assert result.nfe_per_block == (3, 4, 10)
    assert result.nfe == 17
    assert chain.push_forward(noise, solver=solvers).nfe == 17
    assert chain.push_forward(noise, solver=solvers, first=2, last=2).nfe == 4
    part = chain.sample(noise, solver=solvers, first=1, last=2)
    assert (part.nfe_per_block, part.nfe) == ((3, 4), 7)
    adaptive = chain.sample(noise, solver=EXACT)
    assert adaptive.nfe == sum(adaptive.nfe_per_block)
    assert min(adaptive.nfe_per_block) > 6


def test_parts_compose_to_the_whole(gaussian_chain: Callable[..., Any]) -> None:
    chain = gaussian_chain(2, (0.1, 0.2, 0.3)).chain
    solver = SolverSpec("heun", 3)
    noise = torch.randn(4, 2, dtype=torch.float64)
    middle = chain.sample(noise, solver=solver, first=3)
    whole = chain.sample(noise, solver=solver)
    assert torch.equal(chain.sample(middle.x, solver=solver, last=2).x, whole.x)
    middle_pushed = chain.push_forward(noise, solver=solver, last=2)
    assert torch.equal(
        chain.push_forward(middle_pushed.x, solver=solver, first=3).x,
        chain.push_forward(noise, solver=solver).x,
    )


def test_path_joins_block_to_block(gaussian_chain: Callable[..., Any]) -> None:
    chain = gaussian_chain(4, (0.1, 0.2)).chain
    solvers = [SolverSpec("euler", n) for n in (2, 3, 4)]
    noise = torch.randn(5, 2, 2, dtype=torch.float64)
    result = chain.sample(noise, solver=solvers, return_path=True)
    assert result.path is not None
    assert [p.shape for p in result.path] == [(n + 1, 5, 2, 2) for n in (2, 3, 4)]
    assert torch.equal(result.path[2][0], noise)
    assert torch.equal(result.path[2][-1], result.path[1][0])
    assert torch.equal(result.path[1][-1], result.path[0][0])
    assert torch.equal(result.path[0][-1], result.x)
    assert chain.sample(noise, solver=solvers).path is None


def test_samples_do_not_depend_on_their_batch(gaussian_chain: Callable[..., Any]) -> None:
    chain = gaussian_chain(4, (0.1, 0.2)).chain
    noise = torch.randn(6, 4, dtype=torch.float64)
    together = chain.sample(noise, solver=SolverSpec("heun", 4)).x
    alone = torch.cat([chain.sample(z[None], solver=SolverSpec("heun", 4)).x for z in noise])
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=0)


def test_bad_chains_and_arguments(gaussian_chain: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="at least one block"):
        FlowChain([])
    free = FlowBlock(lambda x, t, cond: x, OUStep(None))
    with pytest.raises(ValueError, match="block 1 of 2 is free"):
        FlowChain([free, free])
    chain = gaussian_chain(2, (0.1,)).chain
    x = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(InputError, match="3 solvers were given for 2 blocks"):
        chain.sample(x, solver=[SolverSpec()] * 3)
    for first, last in ((0, 1), (2, 1), (1, 3)):
        with pytest.raises(ValueError, match=r"not inside 1\.\.2"):
            chain.push_forward(x, solver=SolverSpec(), first=first, last=last)
        with pytest.raises(ValueError, match=r"not inside 1\.\.2"):
            chain.sample(x, solver=SolverSpec(), first=first, last=last)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4 * 2 + 1 + 3, 4 * 2)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        features = torch.cat([x.flatten(1), t[:, None], cond], dim=1)
        return self.linear(features).view(x.shape)


@pytest.mark.parametrize("name", ["euler", "midpoint", "heun"])
def test_a_whole_sampler_can_be_exported(name: str) -> None:
    """Traced once with a symbolic batch, the sampler gives the same numbers for other batches."""
    schedule = OUSchedule((0.1,))

    class Sampler(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList([_Net(), _Net()])

        def forward(self, noise: Tensor, cond: Tensor) -> Tensor:
            blocks = [FlowBlock(net, schedule.step(n + 1)) for n, net in enumerate(self.nets)]
            return FlowChain(blocks).sample(noise, cond, solver=SolverSpec(name, 2)).x

    sampler = Sampler().eval()
    batch = torch.export.Dim("batch")
    exported = torch.export.export(
        sampler,
        (torch.randn(3, 4, 2), torch.randn(3, 3)),
        dynamic_shapes={"noise": {0: batch}, "cond": {0: batch}},
    ).module()
    for size in (2, 11):
        inputs = torch.randn(size, 4, 2), torch.randn(size, 3)
        torch.testing.assert_close(exported(*inputs), sampler(*inputs))


class _Linear(nn.Module):
    """A velocity with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        return self.linear(torch.cat([x, t[:, None]], dim=1))


def test_a_chain_is_a_module() -> None:
    schedule = OUSchedule((0.2,))
    nets = [_Linear(), _Linear()]
    chain = FlowChain([FlowBlock(net, schedule.step(n)) for n, net in enumerate(nets, 1)])
    assert {id(p) for p in chain.parameters()} == {id(p) for net in nets for p in net.parameters()}
    assert set(chain.state_dict()) == {
        f"blocks.{n}.network.linear.{part}" for n in (0, 1) for part in ("weight", "bias")
    }
    other = FlowChain([FlowBlock(_Linear(), schedule.step(n)) for n in (1, 2)])
    other.load_state_dict(chain.state_dict())
    noise = torch.randn(4, 2)
    assert torch.equal(
        other.sample(noise, solver=SolverSpec("euler", 2)).x,
        chain.sample(noise, solver=SolverSpec("euler", 2)).x,
    )
    assert chain.to(torch.float64).sample(noise.double(), solver=SolverSpec()).x.dtype == (
        torch.float64
    )


def test_blocks_share_no_weights_unless_asked_to() -> None:
    net, schedule = _Linear(), OUSchedule((0.2,))
    blocks = [FlowBlock(net, schedule.step(n)) for n in (1, 2)]
    with pytest.raises(ValueError, match=r"blocks 1 and 2 share the weight 'network.linear.weight"):
        FlowChain(blocks)
    assert FlowChain(blocks, shared_weights=True).n_blocks == 2


def test_samples_are_not_pushed_through_a_block_twice(gaussian_chain: Callable[..., Any]) -> None:
    chain = gaussian_chain(2, (0.1, 0.2)).chain
    solver = SolverSpec("heun", 3)
    x = torch.randn(4, 2, dtype=torch.float64)
    first = chain.push_forward(x, solver=solver, last=1)
    assert first.boundary == 1
    with pytest.raises(
        ValueError, match=r"passed 1 block\(s\), so block 2 follows and not block 1"
    ):
        chain.push_forward(first, solver=solver, first=1)
    with pytest.raises(ValueError, match="block 2 follows and not block 3"):
        chain.push_forward(first, solver=solver, first=3)
    whole = chain.push_forward(first, solver=solver)
    assert whole.boundary == 3
    assert torch.equal(whole.x, chain.push_forward(x, solver=solver).x)


@pytest.mark.parametrize(
    "solver", [SolverSpec("heun", 5), SolverSpec("dopri5")], ids=lambda s: s.name
)
def test_batches_of_any_size_push_alike(
    gaussian_chain: Callable[..., Any], solver: SolverSpec
) -> None:
    chain = gaussian_chain(3, (0.1, 0.3)).chain
    x = torch.randn(700, 3, dtype=torch.float64)
    pushed = [chain.push_forward(x, solver=solver, batch_size=n) for n in (1000, 256, 77)]
    for other in pushed[1:]:
        torch.testing.assert_close(other.x, pushed[0].x, atol=1e-12, rtol=1e-12)
        assert other.nfe == pushed[0].nfe
    # And as all at once, within what the solver promises.
    at_once = chain.push_forward(x, solver=solver)
    torch.testing.assert_close(at_once.x, pushed[0].x, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="batch_size is 0"):
        chain.push_forward(x, solver=solver, batch_size=0)


def test_noise_given_back_is_what_the_next_block_has_learnt_to_expect() -> None:
    """Of data at one point, one evaluation of the free block is the mean of p_2, without noise."""
    mean, tiny = torch.tensor([0.4, -0.7]).double(), 1e-12 * torch.eye(2).double()
    schedule = OUSchedule((0.05, 0.3))
    moments, blocks = (mean, tiny), []
    for n in (1, 2, 3):
        step = schedule.step(n)
        blocks.append(FlowBlock(GaussianBlockVelocity(*moments, step), step))
        moments = push_gaussian(*moments, step)
    chain = FlowChain(blocks)
    noise = torch.randn(200, 2, dtype=torch.float64)
    for share in (0.0, 0.5, 1.0):
        found = chain.sample(noise, solver=SolverSpec(), renoise=share, return_path=True)
        assert found.nfe == 3 and found.path is not None
        middle = schedule.marginal(2).decay * mean
        expected = middle + share * schedule.step(2).noise_std * noise
        torch.testing.assert_close(found.path[1][0], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.x, mean.expand_as(noise), atol=1e-5, rtol=0)


def test_noise_is_given_back_between_blocks_alone(gaussian_chain: Callable[..., Any]) -> None:
    chain = gaussian_chain(2, (0.1, 0.3)).chain
    x = noise = torch.randn(5, 2, dtype=torch.float64)
    for n in (3, 2, 1):
        if n < 3:
            x = x + 0.7 * chain.block(n).step.noise_std * noise
        x = chain.block(n).run(x, t_start=1.0, t_end=0.0, solver=SolverSpec("heun", 2)).x
    torch.testing.assert_close(chain.sample(noise, solver=SolverSpec("heun", 2), renoise=0.7).x, x)
    one = {"solver": SolverSpec("euler", 2), "first": 2, "last": 2}
    assert torch.equal(chain.sample(noise, renoise=1.0, **one).x, chain.sample(noise, **one).x)
