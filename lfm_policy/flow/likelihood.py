"""Exact log-likelihood of a chain by the change of variables along its flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lfm_policy.flow.chain import FlowChain
from lfm_policy.flow.solver import SolverSpec, integrate
from lfm_policy.flow.velocity import Velocity


class LogProbResult(NamedTuple):
    """Log densities (B,) in nats, the noise (B, *chunk_shape) each x flows to, evaluations."""

    log_prob: Tensor
    noise: Tensor
    nfe: int


def velocity_and_divergence(
    velocity: Velocity, x: Tensor, t: Tensor, cond: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return v(x, t, cond), shape of ``x``, and its exact divergence, shape (B,).

    The trace of dv/dx is summed entry by entry: one backward pass for each of the D entries of a
    sample, so this is for small dimensions. The velocity has to treat the samples of a batch
    independently. Both results are detached.
    """
    batch = x.shape[0]
    divergence = x.new_zeros(batch)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        v = velocity(x, t, cond)
        if not v.requires_grad:  # constant in x
            return v, divergence
        # Summed over the batch: D scalars to differentiate, as samples do not interact.
        components = v.reshape(batch, -1).sum(dim=0).unbind()
        for i, component in enumerate(components):
            (row,) = torch.autograd.grad(
                component, x, retain_graph=i + 1 < len(components), materialize_grads=True
            )
            divergence += row.reshape(batch, -1)[:, i]
    return v.detach(), divergence


def log_prob(
    chain: FlowChain,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    solver: SolverSpec | Sequence[SolverSpec],
) -> LogProbResult:
    """Return log p(x | O) of the chain's samples.

    log p(x | O) = log N(T_N o ... o T_1(x); 0, I) + sum_n integral_0^1 div v_n dt, the integral
    being one more entry of the state, so that an adaptive solver controls its error too. Works in
    the dtype of ``x``. Put networks with dropout into evaluation mode before. No gradients.

    Args:
        chain: blocks 1..N; the last one has to be free, so that the chain ends in N(0, I).
        x: shape (B, *chunk_shape).
        cond: encoded observations, shape (B, cond_dim), or None.
        solver: one specification for all blocks, or one per block, block 1 first.

    Raises:
        ValueError: the last block is not free.
    """
    if not chain.blocks[-1].step.is_free:
        raise ValueError("the last block of the chain is not free: it does not end in N(0, I)")
    solvers = chain.solver_per_block(solver)
    with torch.inference_mode(False), torch.no_grad():
        batch, chunk_shape = x.shape[0], x.shape[1:]
        # Clones, because tensors made in inference mode cannot enter the trace's autograd graph.
        cond = None if cond is None else cond.detach().clone()
        state = torch.cat([x.detach().clone().reshape(batch, -1), x.new_zeros(batch, 1)], dim=1)
        dimension = state.shape[1] - 1
        nfe = 0
        for block, spec in zip(chain.blocks, solvers, strict=True):

            def augmented(
                s: Tensor, t: Tensor, c: Tensor | None, velocity: Velocity = block.velocity
            ) -> Tensor:
                chunk = s[:, :-1].reshape(-1, *chunk_shape)
                v, divergence = velocity_and_divergence(velocity, chunk, t, c)
                return torch.cat([v.reshape(s.shape[0], -1), divergence[:, None]], dim=1)

            result = integrate(augmented, state, cond, t_start=0.0, t_end=1.0, solver=spec)
            state = result.x
            nfe += result.nfe
        noise, divergences = state[:, :-1], state[:, -1]
        log_normal = -0.5 * noise.square().sum(dim=1) - 0.5 * dimension * math.log(2 * math.pi)
        return LogProbResult(log_normal + divergences, noise.reshape(-1, *chunk_shape), nfe)
