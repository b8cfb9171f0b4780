"""Evaluations are shared out evenly, what is left over at the noise side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfm_policy.config import SamplerConfig
from lfm_policy.errors import InputError
from lfm_policy.flow import SOLVERS, SolverSpec
from lfm_policy.policy import plan_sampler

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


@given(
    solver=st.sampled_from(list(PER_STEP)), n_blocks=st.integers(1, 64), nfe=st.integers(-5, 200)
)
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
    with pytest.raises(InputError, match=r"unknown solver 'eular': did you mean 'euler'\?"):
        plan_sampler(SamplerConfig(), 1, solver="eular")


def test_this_file_knows_all_solvers() -> None:
    assert {name for name, method in SOLVERS.items() if method.evaluations} == set(PER_STEP)


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
