"""Evaluations of each block and times of its steps: where they are said, and where steps end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lfm_policy.config import SamplerConfig
from lfm_policy.errors import InputError
from lfm_policy.flow import (
    FlowBlock,
    FlowChain,
    GaussianBlockVelocity,
    OUStep,
    SolverSpec,
    push_gaussian,
)
from lfm_policy.policy import Policy, load_policy, plan_sampler

PER_STEP = {"euler": 1, "midpoint": 2, "heun": 2}
Q = pytest.approx


def decreasing(n: int, draw: st.DrawFn) -> list[float]:
    inside = st.floats(0.01, 0.99)
    return sorted(draw(st.lists(inside, min_size=n, max_size=n, unique=True)), reverse=True)


@st.composite
def samplers(draw: st.DrawFn) -> tuple[str, list[int], list[list[float]]]:
    """Draw a solver, the steps of each block, and times for some of the blocks."""
    steps = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    times = [decreasing(n - 1, draw) if draw(st.booleans()) else [] for n in steps]
    return draw(st.sampled_from(list(PER_STEP))), steps, times


@given(samplers())
def test_each_block_has_the_steps_that_were_said(
    drawn: tuple[str, list[int], list[list[float]]],
) -> None:
    solver, steps, times = drawn
    nfe = [PER_STEP[solver] * n for n in steps]
    sampler = SamplerConfig(solver=solver, block_nfe=nfe, block_times=times)
    assert sampler.nfe == sum(nfe)
    plan = plan_sampler(sampler, len(steps))
    assert plan == [SolverSpec(solver, n, times=t) for n, t in zip(steps, times, strict=True)]
    # Asked for in a call, they are the same; numpy's numbers too.
    asked = plan_sampler(SamplerConfig(), len(steps), solver=solver, nfe=nfe, times=times)
    assert asked == plan
    assert plan_sampler(sampler, len(steps), nfe=np.array(nfe), times=times) == plan
    assert plan_sampler(sampler, len(steps), times=times) == plan


@given(samplers(), st.integers(0, 20))
def test_a_total_alone_is_spread_evenly_again(
    drawn: tuple[str, list[int], list[list[float]]], extra: int
) -> None:
    solver, steps, times = drawn
    nfe = [PER_STEP[solver] * n for n in steps]
    total = PER_STEP[solver] * (len(steps) + extra)
    uneven = SamplerConfig(solver=solver, block_nfe=nfe, block_times=times)
    even = SamplerConfig(solver=solver, nfe=total)
    assert plan_sampler(uneven, len(steps), nfe=total) == plan_sampler(even, len(steps))
    assert uneven.changed(nfe=total) == even
    assert all(not spec.times for spec in plan_sampler(uneven, len(steps), times=[]))


class Counted:
    """The velocity of a Gaussian block, which remembers when it was asked."""

    def __init__(self, velocity: GaussianBlockVelocity) -> None:
        self.velocity = velocity
        self.times: list[float] = []

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        self.times.append(float(t[0]))
        return self.velocity(x, t, cond)


def gaussian_blocks(step_sizes: list[float]) -> tuple[FlowChain, list[Counted]]:
    mean = torch.tensor([0.4, -0.3], dtype=torch.float64)
    cov = torch.tensor([[0.3, 0.1], [0.1, 0.2]], dtype=torch.float64)
    blocks, networks = [], []
    for size in [*step_sizes, None]:
        step = OUStep(size)
        networks.append(Counted(GaussianBlockVelocity(mean, cov, step)))
        blocks.append(FlowBlock(networks[-1], step))
        mean, cov = push_gaussian(mean, cov, step)
    return FlowChain(blocks), networks


def test_steps_of_a_chain_end_where_it_was_said() -> None:
    """Each block is asked at the beginning of its steps, and Euler's steps lead where they must."""
    chain, networks = gaussian_blocks([0.2, 0.6])
    sampler = SamplerConfig(
        solver="euler", block_nfe=[1, 2, 3], block_times=[[], [0.2], [0.7, 0.3]]
    )
    noise = torch.randn(5, 2, dtype=torch.float64)
    result = chain.sample(noise, solver=plan_sampler(sampler, 3), return_path=True)
    assert [network.times for network in networks] == [Q([1.0]), Q([1.0, 0.2]), Q([1.0, 0.7, 0.3])]
    assert result.nfe_per_block == (1, 2, 3)
    x = noise
    for network, ends in reversed(list(zip(networks, [[0], [0.2, 0], [0.7, 0.3, 0]], strict=True))):
        for begin, end in zip([1.0, *ends], ends, strict=False):
            x = x + (end - begin) * network.velocity(x, torch.full((5,), begin).double())
    torch.testing.assert_close(result.x, x)


def test_more_steps_in_one_block_bring_it_nearer_to_its_exact_map() -> None:
    """What another spread of as many evaluations changes is the error of that block alone."""
    chain, networks = gaussian_blocks([0.6])
    noise = torch.randn(100, 2, dtype=torch.float64)
    last = networks[-1].velocity
    one, zero = torch.ones(100).double(), torch.zeros(100).double()
    exact = last.flow_map(noise, one, zero)

    def error(block_nfe: list[int]) -> float:
        plan = plan_sampler(SamplerConfig(solver="euler", block_nfe=block_nfe), 2)
        return float((chain.sample(noise, solver=plan, first=2).x - exact).square().mean())

    errors = [error([6 - n, n]) for n in range(1, 6)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 5


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"block_nfe": [1, 1]}, r"block_nfe has 2 elements, expected one for each of 3 block\(s\)"),
    ({"nfe": 6, "block_times": [[0.3]]}, "block_times has 1 elements, expected one for each of 3"),
    (
        {"block_nfe": [1, 1, 3], "block_times": [[], [], [0.3]]},
        r"block_times\[2\] has 1 elements, expected 2, one fewer than block 3 has steps, or none",
    ),
    (
        {"solver": "heun", "block_nfe": [2, 3, 4]},
        r"block_nfe\[1\] is 3, expected a multiple of 2: one step of 'heun' takes 2",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=str)
def test_what_does_not_fit_the_blocks_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_sampler(SamplerConfig(**options), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_times": [[], [0.2, 0.5]]}, r"block_times\[1\] are \[0.2, 0.5\]; expected numbers"),
        ({"block_times": [[1.0]]}, r"block_times\[0\] are \[1.0\]; expected numbers between 1"),
        ({"block_nfe": [1, 0]}, r"block_nfe\[1\] is 0, expected an integer from 1 to 1000"),
        ({"block_times": [0.3]}, r"block_times\[0\]: found 0.3, expected list\[float\]"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SamplerConfig(**options)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"nfe": 0}, "nfe is 0, expected an integer from 1"),
        ({"nfe": [1, 1]}, "block_nfe has 2 elements, expected one for each of 3"),
        ({"nfe": "many"}, "nfe: found 'many', expected int"),
        ({"nfe": [True, 1, 1]}, r"block_nfe\[0\]: found True, expected list\[int\]"),
        ({"times": 0.3}, r"times: found 0.3, expected list\[float\]"),
        (
            {"nfe": 3, "times": [0.3]},
            r"times are \[0.3\], which are for 2 steps; the blocks have 1",
        ),
        ({"solver": "dopri5", "nfe": [1, 1, 1]}, r"nfe is \[1, 1, 1\], but the solver 'dopri5'"),
        ({"solver": "dopri5", "times": [0.3]}, r"times is \[0.3\], but the solver 'dopri5'"),
    ],
)
def test_what_a_caller_asks_for_is_checked(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_sampler(SamplerConfig(), 3, **asked)


def test_an_adaptive_solver_takes_no_notice_of_them() -> None:
    sampler = SamplerConfig(block_nfe=[1, 2], block_times=[[], [0.3]])
    assert plan_sampler(sampler, 2, solver="dopri5") == [SolverSpec("dopri5")] * 2


UNEVEN = {"block_nfe": [1, 2], "block_times": [[], [0.3]], "noise_scale": 1.0}


def test_a_policy_samples_as_it_is_configured_asked_and_saved(
    make_policy: Callable[..., Policy], checkpoint: Path, tmp_path: Path
) -> None:
    policy = make_policy(sampler=UNEVEN)
    assert (policy.nfe, policy.nfe_per_block, policy.block_times) == (3, (1, 2), ((), (0.3,)))
    assert policy.metadata["nfe_per_block"] == [1, 2]
    assert policy.metadata["block_times"] == [[], [0.3]]
    policy.set_sampler(nfe=4)
    assert (policy.nfe_per_block, policy.block_times) == ((2, 2), ((), ()))
    policy.set_sampler(times=[])
    assert (policy.nfe_per_block, policy.block_times) == ((1, 2), ((), ()))
    policy.set_sampler(noise_scale=0.5)
    assert (policy.nfe_per_block, policy.block_times) == ((1, 2), ((), (0.3,)))

    trained = load_policy(checkpoint)
    trained.set_sampler(nfe=[1, 3], times=[[], [0.6, 0.3]])
    trained.sample_seed(3, episode=1)
    expected = trained.predict_action_chunk(trained.fake_batch(4, seed=2))
    saved = load_policy(trained.save(tmp_path / "saved"))
    saved.sample_seed(3, episode=1)
    assert torch.equal(saved.predict_action_chunk(saved.fake_batch(4, seed=2)), expected)
    assert saved.config.sampler.nfe == 4 and saved.nfe_per_block == (1, 3)
    saved.set_sampler(nfe=4)
    assert saved.nfe_per_block == (2, 2)
    # An even spread is what is kept then.
    again = load_policy(saved.save(tmp_path / "saved"))
    assert again.config.sampler.block_nfe == [] and again.nfe_per_block == (2, 2)
