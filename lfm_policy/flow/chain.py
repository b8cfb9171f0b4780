"""The chain of blocks: sampling from noise to data, push-forward from data to noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from lfm_policy.errors import InputError
from lfm_policy.flow.block import FlowBlock
from lfm_policy.flow.solver import SolverSpec, integrate


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
    """Result of a push-forward: the pushed samples (B, *chunk_shape) and the evaluations used."""

    x: Tensor
    nfe: int


class FlowChain:
    """Blocks 1..N; block 1 is at the data, the (free) block N ends in N(0, I).

    A part of a chain is a chain too, so the last block does not have to be the free one.
    ``solver`` arguments are one specification for all blocks or a sequence of N, index 0 for
    block 1. Gradients flow through everything: call under ``torch.no_grad()`` or
    ``torch.inference_mode()`` where none are wanted.
    """

    def __init__(self, blocks: Sequence[FlowBlock]) -> None:
        """Build a chain of at least one block.

        Raises:
            ValueError: there is no block, or a block other than the last one is free.
        """
        if not blocks:
            raise ValueError("a chain needs at least one block")
        for n, block in enumerate(blocks[:-1], start=1):
            if block.step.is_free:
                raise ValueError(
                    f"block {n} of {len(blocks)} is free; only the last block of a chain can be"
                )
        self.blocks = tuple(blocks)

    @property
    def n_blocks(self) -> int:
        """N."""
        return len(self.blocks)

    def sample(
        self,
        noise: Tensor,
        cond: Tensor | None = None,
        *,
        solver: SolverSpec | Sequence[SolverSpec],
        first: int = 1,
        last: int | None = None,
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
            return_path: whether to keep the intermediate states.

        Raises:
            InputError: a sequence of solvers has not N entries.
            ValueError: the range of blocks is not inside 1..N.
        """
        solvers = self.solver_per_block(solver)
        x = noise
        nfe: list[int] = []
        paths: list[Tensor] = []
        for n in reversed(self._range(first, last)):
            result = integrate(
                self.blocks[n - 1].velocity,
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
        x: Tensor,
        cond: Tensor | None = None,
        *,
        solver: SolverSpec | Sequence[SolverSpec],
        first: int = 1,
        last: int | None = None,
    ) -> PushResult:
        """Map data-side states to the noise side, through blocks ``first``, ..., ``last``.

        Args:
            x: states at t = 0 of block ``first``, shape (B, *chunk_shape): samples of p_{first-1}.
            cond: encoded observations, shape (B, cond_dim), or None.
            solver: see the class.
            first: the block nearest the data.
            last: the block nearest the noise; N when None.

        Raises:
            InputError: a sequence of solvers has not N entries.
            ValueError: the range of blocks is not inside 1..N.
        """
        solvers = self.solver_per_block(solver)
        nfe = 0
        for n in self._range(first, last):
            result = integrate(
                self.blocks[n - 1].velocity,
                x,
                cond,
                t_start=0.0,
                t_end=1.0,
                solver=solvers[n - 1],
            )
            x = result.x
            nfe += result.nfe
        return PushResult(x, nfe)

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
