"""Pushing training chunks through a trained block, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor

from lfm_policy.config.flow import PushForwardConfig
from lfm_policy.errors import TrainingError
from lfm_policy.flow import FlowChain, SolverSpec
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.training.source import ChunkSource


class BlockPusher:
    """Integrates the chunks of a source through one block, from t = 0 to t = 1.

    Rows are cut into the same batches wherever the work was interrupted: an adaptive solver
    chooses its steps for a whole batch.
    """

    def __init__(
        self, model: PolicyModel, n: int, options: PushForwardConfig, accelerator: Accelerator
    ) -> None:
        self._model = model
        self._n = n
        self._batch_size = options.batch_size
        self._solver = SolverSpec(options.solver, options.n_steps, options.rtol, options.atol)
        self._chain = FlowChain([model.flow_block(n)])
        self._encoder = model.encoder
        self._accelerator = accelerator

    def push(self, source: ChunkSource, begin: int = 0) -> Iterator[tuple[Tensor, int]]:
        """Yield (rows, NFE): the pushed rows of ``source`` from row ``begin`` on, in order.

        Several processes push one batch each per round; every process gets the whole round.

        Raises:
            TrainingError: the block's velocity cannot be integrated.
        """
        world, rank = self._accelerator.num_processes, self._accelerator.process_index
        while begin < len(source):
            rows, nfe = self._push_rows(source, begin + rank * self._batch_size)
            if world > 1:
                rows = self._gather_round(rows, len(source) - begin)
            begin += len(rows)
            yield rows, nfe

    @torch.no_grad()
    def _push_rows(self, source: ChunkSource, begin: int) -> tuple[Tensor, int]:
        device = source.dataset.device
        end = min(begin + self._batch_size, len(source))
        if begin >= end:
            return torch.zeros(0, *self._model.chunk_shape, device=device), 0
        idx = torch.arange(begin, end, device=device)
        condition = source.condition(idx)
        cond = self._encoder(condition) if isinstance(condition, dict) else condition
        cond = with_prefix(cond, source.prefix(idx))
        try:
            result = self._chain.push_forward(source.chunks(idx), cond, solver=self._solver)
        except FloatingPointError as error:
            raise TrainingError(
                f"block {self._n} cannot be integrated for the push-forward: {error}. It is "
                "trained too little or too fast: raise training.total_steps, lower "
                "training.learning_rate, or choose push_forward.solver=heun"
            ) from None
        if not bool(torch.isfinite(result.x).all()):
            raise TrainingError(f"the push-forward through block {self._n} is not finite")
        return result.x, result.nfe

    def _gather_round(self, rows: Tensor, left: int) -> Tensor:
        """Return the rows of all processes of one round, in order."""
        padded = torch.zeros(self._batch_size, *rows.shape[1:], device=rows.device)
        padded[: len(rows)] = rows
        gathered: Tensor = self._accelerator.gather(padded)
        return gathered[:left]
