"""The chain of blocks: sampling from noise to data, push-forward from data to noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.flow.block import FlowBlock
from lfm_policy.flow.solvers import OdeResult, SolverSpec, with_fixed_times

PILOT_ROWS = 256
"""Rows for which an adaptive solver chooses its steps when all go through in batches."""


class SampleResult(NamedTuple):
    """Result of sampling.

    Attributes:
        x: samples, (B, *chunk_shape).
        nfe: velocity evaluations over all blocks.
        nfe_per_block: the same for each block; index 0 is the block nearest the data.
        path: for each block, in the same order, its states from t = 1 to t = 0 as
            (n_steps + 1, B, *chunk_shape); None unless asked for.
    """

    x: Tensor
    nfe: int
    nfe_per_block: tuple[int, ...]
    path: tuple[Tensor, ...] | None


class PushResult(NamedTuple):
    """Result of a push-forward.

    Attributes:
        x: pushed samples, (B, *chunk_shape).
        nfe: evaluations used for each of them.
        boundary: how many blocks they have passed: they are samples of p_boundary.
    """

    x: Tensor
    nfe: int
    boundary: int


class FlowChain(nn.Module):
    """Blocks 1..N; block 1 is at the data, the (free) block N ends in N(0, I).

    A part of a chain is a chain too, so the last block does not have to be the free one.
    ``solver`` arguments are one specification for all blocks or a sequence of N, index 0 for
    block 1. Gradients flow through everything: call under ``torch.no_grad()`` or
    ``torch.inference_mode()`` where none are wanted.

    Attributes:
        blocks: index 0 = block 1 = data side.
    """

    def __init__(self, blocks: Sequence[FlowBlock], *, shared_weights: bool = False) -> None:
        """Build a chain of at least one block.

        Args:
            blocks: 1..N.
            shared_weights: allow blocks to have parameters in common; training one of them then
                changes the others.

        Raises:
            ValueError: there is no block, a block other than the last one is free, or two blocks
                share weights that they should not.
        """
        super().__init__()
        if not blocks:
            raise ValueError("a chain needs at least one block")
        for n, block in enumerate(blocks[:-1], start=1):
            if block.step.is_free:
                raise ValueError(
                    f"block {n} of {len(blocks)} is free; only the last block of a chain can be"
                )
        if not shared_weights:
            _check_own_weights(blocks)
        self.blocks = nn.ModuleList(blocks)
        self._in_order = tuple(blocks)  # a list of modules looks its items up by name, every time

    @property
    def n_blocks(self) -> int:
        """N."""
        return len(self.blocks)

    def block(self, n: int) -> FlowBlock:
        """Return block n = 1..N."""
        return self._in_order[n - 1]

    def sample(
        self,
        noise: Tensor,
        cond: Tensor | None = None,
        *,
        solver: SolverSpec | Sequence[SolverSpec],
        first: int = 1,
        last: int | None = None,
        renoise: float = 0.0,
        return_path: bool = False,
    ) -> SampleResult:
        """Map noise-side states to the data side, through blocks ``last``, ..., ``first``.

        Args:
            noise: states at t = 1 of block ``last``, shape (B, *chunk_shape); draws from N(0, I)
                when that is block N.
            cond: encoded observations, shape (B, cond_dim), or None.
            solver: see the class.
            first: the block nearest the data.
            last: the block nearest the noise; N when None.
            renoise: what a block is given of the noise that the diffusion adds in it: before each
                block but ``last``, ``renoise`` b_n ``noise`` is added to its states, b_n being the
                ``noise_std`` of its step. What a block makes in one evaluation is near the middle
                of what it could be, and lacks the noise that the next block has learnt to expect;
                x_n = a_n x_{n-1} + b_n z has it. 0 for blocks of many evaluations, which keep it.
                The noise is the same in all blocks, so samples remain a function of it.
            return_path: whether to keep the intermediate states.

        Raises:
            InputError: a sequence of solvers has not N entries.
            ValueError: the range of blocks is not inside 1..N.
        """
        solvers = self.solver_per_block(solver)
        x = noise
        nfe: list[int] = []
        paths: list[Tensor] = []
        blocks = self._range(first, last)
        for n in reversed(blocks):
            if renoise and n != blocks[-1]:
                x = x + (renoise * self.block(n).step.noise_std) * noise
            result = self.block(n).run(
                x,
                cond,
                t_start=1.0,
                t_end=0.0,
                solver=solvers[n - 1],
                return_path=return_path,
            )
            x = result.x
            nfe.append(result.nfe)
            if result.path is not None:
                paths.append(result.path)
        path = tuple(reversed(paths)) if return_path else None
        return SampleResult(x, sum(nfe), tuple(reversed(nfe)), path)

    def push_forward(
        self,
        x: Tensor | PushResult,
        cond: Tensor | None = None,
        *,
        solver: SolverSpec | Sequence[SolverSpec],
        first: int | None = None,
        last: int | None = None,
        batch_size: int | None = None,
    ) -> PushResult:
        """Map data-side states to the noise side, through blocks ``first``, ..., ``last``.

        Args:
            x: states at t = 0 of block ``first``, shape (B, *chunk_shape): samples of p_{first-1}.
                What an earlier push-forward returned goes on with the block that follows.
            cond: encoded observations, shape (B, cond_dim), or None.
            solver: see the class.
            first: the block nearest the data; 1, or the block that follows, when None.
            last: the block nearest the noise; N when None.
            batch_size: rows at a time; all when None. The result is the same for any number but
                for rounding: an adaptive solver chooses its steps for the first `PILOT_ROWS` rows.

        Raises:
            InputError: a sequence of solvers has not N entries.
            ValueError: the range of blocks is not inside 1..N, or ``x`` has passed block ``first``
                already, or is not there yet.
        """
        solvers = self.solver_per_block(solver)
        passed = x.boundary if isinstance(x, PushResult) else None
        states = x.x if isinstance(x, PushResult) else x
        if first is None:
            first = 1 if passed is None else passed + 1
        elif passed is not None and passed != first - 1:
            raise ValueError(
                f"these samples have passed {passed} block(s), so block {passed + 1} follows and "
                f"not block {first}"
            )
        nfe, blocks = 0, self._range(first, last)
        for n in blocks:
            result = run_in_batches(self.block(n), states, cond, solvers[n - 1], batch_size)
            states = result.x
            nfe += result.nfe
        return PushResult(states, nfe, blocks[-1])

    def solver_per_block(self, solver: SolverSpec | Sequence[SolverSpec]) -> tuple[SolverSpec, ...]:
        """Return N specifications, index 0 for block 1.

        Raises:
            InputError: a sequence of solvers has not N entries.
        """
        if isinstance(solver, SolverSpec):
            return (solver,) * self.n_blocks
        if len(solver) != self.n_blocks:
            raise InputError(
                f"{len(solver)} solvers were given for {self.n_blocks} blocks; expected one for "
                "all blocks or one per block, the data-side block first"
            )
        return tuple(solver)

    def _range(self, first: int, last: int | None) -> range:
        last = self.n_blocks if last is None else last
        if not 1 <= first <= last <= self.n_blocks:
            raise ValueError(f"blocks {first}..{last} are not inside 1..{self.n_blocks}")
        return range(first, last + 1)


def run_in_batches(
    block: FlowBlock, x: Tensor, cond: Tensor | None, solver: SolverSpec, batch_size: int | None
) -> OdeResult:
    """Take x (B, *chunk_shape) from t = 0 to t = 1 of a block, ``batch_size`` rows at a time.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """
    if batch_size is None:
        return block.run(x, cond, t_start=0.0, t_end=1.0, solver=solver)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    if solver.nfe is None:
        pilot = None if cond is None else cond[:PILOT_ROWS]
        solver = with_fixed_times(
            block.velocity, x[:PILOT_ROWS], pilot, t_start=0.0, t_end=1.0, solver=solver
        )
    parts = [
        block.run(
            x[begin : begin + batch_size],
            None if cond is None else cond[begin : begin + batch_size],
            t_start=0.0,
            t_end=1.0,
            solver=solver,
        )
        for begin in range(0, max(len(x), 1), batch_size)
    ]
    return OdeResult(torch.cat([part.x for part in parts]), max(p.nfe for p in parts), None)


def _check_own_weights(blocks: Sequence[FlowBlock]) -> None:
    owners: dict[int, int] = {}
    for n, block in enumerate(blocks, start=1):
        for name, parameter in block.named_parameters():
            owner = owners.setdefault(id(parameter), n)
            if owner != n:
                raise ValueError(
                    f"blocks {owner} and {n} share the weight '{name}': training one would change "
                    "the other; give each its own network, or say shared_weights=True"
                )
