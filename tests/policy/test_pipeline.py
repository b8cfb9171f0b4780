"""From raw observations to chunks, and how evaluations are shared out to blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.config import SamplerConfig
from lfm_policy.errors import InputError
from lfm_policy.flow import SOLVERS, DiffusionConfig, SolverSpec, VelocityConfig, VelocityMethod
from lfm_policy.policy import Policy, plan_sampler

PER_STEP = {"euler": 1, "midpoint": 2, "heun": 2}


@given(
    solver=st.sampled_from(list(PER_STEP)),
    n_blocks=st.integers(1, 64),
    extra=st.integers(0, 300),
)
def test_total_is_what_was_asked_for_and_spread_evenly(
    solver: str, n_blocks: int, extra: int
) -> None:
    nfe = PER_STEP[solver] * (n_blocks + extra)
    plan = plan_sampler(SamplerConfig(), n_blocks, solver=solver, nfe=nfe)
    assert len(plan) == n_blocks
    counts = [spec.nfe or 0 for spec in plan]
    assert sum(counts) == nfe
    assert all(spec.name == solver and spec.n_steps >= 1 for spec in plan)
    steps = [spec.n_steps for spec in plan]
    assert max(steps) - min(steps) <= 1
    # Index 0 is the data side.
    assert steps == sorted(steps)


@given(solver=st.sampled_from(list(PER_STEP)), n_blocks=st.integers(1, 64), nfe=st.integers(1, 200))
def test_what_does_not_fit_is_refused(solver: str, n_blocks: int, nfe: int) -> None:
    per_step = PER_STEP[solver]
    if nfe >= n_blocks * per_step and nfe % per_step == 0:
        return
    expected = (
        rf"nfe is {nfe}, expected a multiple of {per_step} of at least {n_blocks * per_step}: "
        rf"{n_blocks} block\(s\), and one step of '{solver}' takes {per_step} evaluation"
    )
    with pytest.raises(InputError, match=expected):
        plan_sampler(SamplerConfig(), n_blocks, solver=solver, nfe=nfe)


def test_defaults_come_from_the_configuration() -> None:
    sampler = SamplerConfig(solver="heun", nfe=6)
    expected = [SolverSpec("heun", 1), SolverSpec("heun", 2)]
    assert plan_sampler(sampler, 2) == expected
    assert plan_sampler(sampler, 2, nfe=4) == [SolverSpec("heun", 1)] * 2
    assert plan_sampler(sampler, 2, solver="euler") == [SolverSpec("euler", 3)] * 2


def test_adaptive_solver() -> None:
    sampler = SamplerConfig(solver="dopri5", rtol=1e-3, atol=1e-6)
    assert plan_sampler(sampler, 3) == [SolverSpec("dopri5", rtol=1e-3, atol=1e-6)] * 3
    with pytest.raises(InputError, match="nfe is 8, but the solver 'dopri5' chooses its steps"):
        plan_sampler(sampler, 3, nfe=8)


def test_unknown_solver() -> None:
    with pytest.raises(InputError, match=r"solver is 'eular', .* \(did you mean 'euler'\?\)"):
        plan_sampler(SamplerConfig(), 1, solver="eular")


def test_this_file_knows_all_solvers() -> None:
    steps = {name for name, solver in SOLVERS.items() if solver.step is not None}
    assert steps == set(PER_STEP)
    assert set(SOLVERS.names()) - steps == {"dopri5", "ddpm", "ddim", "dpmsolver++"}


def test_a_solver_of_another_method_is_refused() -> None:
    with pytest.raises(InputError, match="solver ddim: only flow.method=diffusion has it; choose"):
        plan_sampler(SamplerConfig(), 1, solver="ddim", nfe=4)
    diffusion = DiffusionConfig().create()
    assert plan_sampler(SamplerConfig(nfe=4), 1, method=diffusion) == [SolverSpec("ddim", 4)]
    with pytest.raises(InputError, match="101 steps are more than the 100 of training"):
        plan_sampler(SamplerConfig(), 1, method=diffusion, solver="ddpm", nfe=101)


def test_given_times_are_used_where_they_fit() -> None:
    sampler = SamplerConfig(solver="euler", nfe=2, times=[0.1])
    two = SolverSpec("euler", 2, times=(0.1,))
    assert plan_sampler(sampler, 1) == [two]
    assert plan_sampler(sampler, 1, nfe=4) == [SolverSpec("euler", 4)]
    assert plan_sampler(sampler, 2, nfe=3) == [SolverSpec("euler"), two]


@pytest.mark.parametrize("times", [[0.1, 0.5], [1.0], [0.0], [0.5, 0.5]])
def test_times_that_do_not_decrease_are_refused(times: list[float]) -> None:
    with pytest.raises(InputError, match=r"times are .* expected numbers between 1 and 0"):
        SamplerConfig(times=times)


class Twice(VelocityMethod):
    """A method that asks its network twice for every evaluation of the solver."""

    def evaluations(self, solver: SolverSpec) -> int | None:
        return None if solver.nfe is None else 2 * solver.nfe


TWICE = Twice(VelocityConfig())


def test_the_method_says_what_a_step_costs() -> None:
    two_steps = [SolverSpec("euler", 2)] * 2
    assert plan_sampler(SamplerConfig(), 2, method=TWICE, nfe=8) == two_steps
    assert plan_sampler(SamplerConfig(), 2, method=VelocityConfig().create(), nfe=4) == two_steps
    with pytest.raises(InputError, match="nfe is 3, expected a multiple of 2 of at least 4"):
        plan_sampler(SamplerConfig(), 2, method=TWICE, nfe=3)
    assert plan_sampler(SamplerConfig(), 1, method=TWICE, solver="dopri5")[0].nfe is None


class Midpoint(VelocityMethod):
    default_solver = "midpoint"


MIDPOINT = Midpoint(VelocityConfig())


def test_the_method_says_its_solver_where_nothing_else_does() -> None:
    assert SamplerConfig().solver == ""
    unsaid, said = SamplerConfig(nfe=4), SamplerConfig(nfe=4, solver="euler")
    assert plan_sampler(unsaid, 2, method=MIDPOINT) == [SolverSpec("midpoint", 1)] * 2
    assert plan_sampler(unsaid, 2) == [SolverSpec("euler", 2)] * 2
    assert plan_sampler(said, 2, method=MIDPOINT) == [SolverSpec("euler", 2)] * 2


def test_what_is_exported_is_what_runs(policy: Policy) -> None:
    """`forward`, which is traced, gives the chunks of `Policy.sample`."""
    batch, noise = policy.fake_batch(3), torch.randn(3, *policy.chunk_shape)
    raw = {key: torch.from_numpy(value) for key, value in batch.items()}
    assert torch.equal(policy.pipeline(raw, noise), policy.sample(batch, noise=noise).chunk)


def test_a_copy_has_the_sampler_and_weights_of_its_own(
    make_policy: Callable[..., Policy],
) -> None:
    policy = make_policy(policy={"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3})
    policy.set_sampler(solver="heun", nfe=8, noise_scale=0.5)
    copied = policy.pipeline.copy("cpu")
    assert copied.sampler.nfe_per_block == policy.nfe_per_block == (4, 4)
    noise = torch.randn(1, *policy.chunk_shape)
    raw = {key: torch.from_numpy(value) for key, value in policy.fake_batch().items()}
    before = policy.pipeline(raw, noise)
    assert torch.equal(copied(raw, noise), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(policy.pipeline(raw, noise), before)
    assert not torch.equal(copied(raw, noise), before)


def test_an_action_that_is_no_number_never_leaves_the_policy(policy: Policy) -> None:
    with torch.no_grad():
        for parameter in policy.model.blocks[0].parameters():
            parameter.fill_(1e38)
    with pytest.raises(FloatingPointError, match="not finite"):
        policy.select_action(policy.fake_obs())
