"""Log-likelihood of a chain by the change of variables along its flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lfm_policy.flow.chain import PILOT_ROWS, FlowChain
from lfm_policy.flow.solvers import SolverSpec, integrate, with_fixed_times
from lfm_policy.flow.solvers.velocity import Velocity


class LogProbResult(NamedTuple):
    """Log densities (B,) in nats, the noise (B, *chunk_shape) each x flows to, evaluations."""

    log_prob: Tensor
    noise: Tensor
    nfe: int


def velocity_and_divergence(
    velocity: Velocity,
    x: Tensor,
    t: Tensor,
    cond: Tensor | None,
    probes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return v(x, t, cond), shape of ``x``, and its divergence, shape (B,).

    Without ``probes`` the trace of dv/dx is exact and summed entry by entry: one backward pass for
    each of the D entries of a sample, so this is for small dimensions. With K probes e it is the
    mean of e^T (dv/dx) e, which has the trace as its expectation (Hutchinson; Grathwohl et al.,
    "FFJORD", arXiv:1810.01367): one backward pass each. The velocity has to treat the samples of a
    batch independently. Both results are detached.

    Args:
        velocity: the field.
        x: (B, *chunk_shape).
        t: (B,).
        cond: (B, cond_dim), or None.
        probes: (B, K, *chunk_shape) of independent entries with mean 0 and variance 1, or None.
    """
    batch = x.shape[0]
    divergence = x.new_zeros(batch)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        v = velocity(x, t, cond)
        if not v.requires_grad:  # constant in x
            return v, divergence
        if probes is None:
            # Summed over the batch: D scalars to differentiate, as samples do not interact.
            components = v.reshape(batch, -1).sum(dim=0).unbind()
        else:
            components = tuple((v * probe).sum() for probe in probes.unbind(1))
        for i, component in enumerate(components):
            (row,) = torch.autograd.grad(
                component, x, retain_graph=i + 1 < len(components), materialize_grads=True
            )
            if probes is None:
                divergence += row.reshape(batch, -1)[:, i]
            else:
                divergence += (row * probes[:, i]).reshape(batch, -1).sum(1) / len(components)
    return v.detach(), divergence


def log_prob(
    chain: FlowChain,
    x: Tensor,
    cond: Tensor | None = None,
    *,
    solver: SolverSpec | Sequence[SolverSpec],
    n_probes: int | None = None,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
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
        n_probes: estimate the divergence with so many random signs per sample, the same all along
            its way; None: exactly. The estimate has no bias, and costs ``n_probes`` backward
            passes per evaluation instead of one for each entry of a sample.
        generator: of the signs; torch's global one when None.
        batch_size: rows at a time; all when None. The result is the same for any number but for
            rounding: an adaptive solver chooses its steps for the first `PILOT_ROWS` rows.

    Raises:
        InputError: a method of the chain has no velocity.
        ValueError: the last block is not free, or ``n_probes`` or ``batch_size`` is below 1.
    """
    if not chain.block(chain.n_blocks).step.is_free:
        raise ValueError("the last block of the chain is not free: it does not end in N(0, I)")
    for name, value in (("n_probes", n_probes), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    solvers = chain.solver_per_block(solver)
    with torch.inference_mode(False), torch.no_grad():
        chunk_shape = x.shape[1:]
        # Clones, because tensors made in inference mode cannot enter the trace's autograd graph.
        cond = None if cond is None else cond.detach().clone()
        state = torch.cat([x.detach().clone().reshape(len(x), -1), x.new_zeros(len(x), 1)], dim=1)
        probes = None
        if n_probes is not None:
            signs = torch.randint(
                2, (len(x), n_probes, *chunk_shape), generator=generator, device=x.device
            )
            probes = (2 * signs - 1).to(x.dtype)
        nfe = 0
        for n, spec in enumerate(solvers, start=1):
            field = _Augmented(chain.block(n).velocity, chunk_shape, cond, probes)
            if batch_size is not None:
                rows = slice(0, PILOT_ROWS)
                spec = with_fixed_times(
                    field.of(rows), state[rows], t_start=0.0, t_end=1.0, solver=spec
                )
            parts = []
            size = max(len(x), 1) if batch_size is None else batch_size
            for begin in range(0, max(len(x), 1), size):
                rows = slice(begin, begin + size)
                parts.append(
                    integrate(field.of(rows), state[rows], t_start=0.0, t_end=1.0, solver=spec)
                )
            state = torch.cat([part.x for part in parts])
            nfe += max(part.nfe for part in parts) * chain.block(n).evaluations_per_answer
        noise, divergences = state[:, :-1], state[:, -1]
        dimension = noise.shape[1]
        log_normal = -0.5 * noise.square().sum(dim=1) - 0.5 * dimension * math.log(2 * math.pi)
        return LogProbResult(log_normal + divergences, noise.reshape(-1, *chunk_shape), nfe)


class _Augmented:
    """A velocity beside its divergence: the field of states (B, D + 1)."""

    def __init__(
        self,
        velocity: Velocity,
        chunk_shape: torch.Size,
        cond: Tensor | None,
        probes: Tensor | None,
    ) -> None:
        self._velocity = velocity
        self._chunk_shape = chunk_shape
        self._cond = cond
        self._probes = probes

    def of(self, rows: slice) -> Velocity:
        """Return the field of some of the rows."""
        cond = None if self._cond is None else self._cond[rows]
        probes = None if self._probes is None else self._probes[rows]

        def field(state: Tensor, t: Tensor, _: Tensor | None) -> Tensor:
            chunk = state[:, :-1].reshape(-1, *self._chunk_shape)
            v, divergence = velocity_and_divergence(self._velocity, chunk, t, cond, probes)
            return torch.cat([v.reshape(state.shape[0], -1), divergence[:, None]], dim=1)

        return field
