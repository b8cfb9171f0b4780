"""Property tests: every operation keeps any chunk shape, dtype, and works with and without cond."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfm_policy.flow import (
    COUPLINGS,
    INTERPOLANTS,
    SOLVERS,
    FlowBlock,
    FlowChain,
    OUSchedule,
    SolverSpec,
    log_prob,
)

chunk_shapes = st.lists(st.integers(1, 4), min_size=0, max_size=3).map(tuple)


class _Velocity:
    """dx/dt = -x / 2 + mean(cond) + t, checking what it is called with."""

    def __init__(self, shape: tuple[int, ...], batch: int, cond_dim: int) -> None:
        self.shape, self.batch, self.cond_dim = shape, batch, cond_dim

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        assert x.shape == (self.batch, *self.shape)
        assert t.shape == (self.batch,) and t.dtype == x.dtype
        shift = t
        if self.cond_dim:
            assert cond is not None and cond.shape == (self.batch, self.cond_dim)
            shift = t + cond.mean(dim=1)
        else:
            assert cond is None
        return -0.5 * x + shift.view(-1, *(1,) * len(self.shape))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=chunk_shapes,
    batch=st.integers(1, 5),
    cond_dim=st.integers(0, 3),
    n_blocks=st.integers(1, 3),
    interpolant=st.sampled_from(INTERPOLANTS.names()),
    coupling=st.sampled_from(COUPLINGS.names()),
    solver=st.sampled_from([name for name, one in SOLVERS.items() if not one.method]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_chunk_shape(
    shape: tuple[int, ...],
    batch: int,
    cond_dim: int,
    n_blocks: int,
    interpolant: str,
    coupling: str,
    solver: str,
    dtype: torch.dtype,
) -> None:
    schedule = OUSchedule((0.2,) * (n_blocks - 1))
    velocity = _Velocity(shape, batch, cond_dim)
    blocks = [
        FlowBlock(velocity, schedule.step(n), interpolant, coupling) for n in range(1, n_blocks + 1)
    ]
    chain = FlowChain(blocks)
    x, x_other = torch.randn(2, batch, *shape, dtype=dtype)
    cond = torch.randn(batch, cond_dim, dtype=dtype) if cond_dim else None
    for block in blocks:
        loss = block.loss(x, cond, x_other=x_other)
        assert loss.shape == () and loss.dtype == dtype and torch.isfinite(loss)
    spec = SolverSpec(solver, 40, rtol=1e-5, atol=1e-5)
    pushed = chain.push_forward(x, cond, solver=spec)
    assert pushed.x.shape == x.shape and pushed.x.dtype == dtype
    back = chain.sample(pushed.x, cond, solver=spec)
    assert back.nfe > 0 and len(back.nfe_per_block) == n_blocks
    torch.testing.assert_close(back.x, x, atol=0.2, rtol=0)
    density = log_prob(chain, x, cond, solver=spec)
    assert density.log_prob.shape == (batch,) and density.noise.shape == x.shape
    torch.testing.assert_close(density.noise, pushed.x, atol=1e-3, rtol=1e-3)
