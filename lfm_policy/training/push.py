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
from lfm_policy.training.rows.chunks import ChunkRows
from lfm_policy.training.run import SYNC_EVERY, Run
from lfm_policy.training.run_folder.meters import Clock
from lfm_policy.training.run_folder.state import PUSH, TRAIN
from lfm_policy.training.trainer import Trainer


def push_through(run: Run, trainer: Trainer, rows: ChunkRows, validation: ChunkRows | None) -> None:
    """Push all rows through the block just trained; they become the data of the next block.

    Checkpoints are written on the way, and what an earlier one holds is not pushed again.
    """
    progress, options = run.progress, run.config.push_forward
    n, record = trainer.n, progress.records[trainer.n - 1]
    progress.phase = PUSH
    pusher = BlockPusher(run.model, n, options, run.accelerator)
    pushed = torch.zeros(len(rows), *run.model.chunk_shape, device=run.device)
    if "pushed" in run.kept:
        pushed[: progress.pushed] = run.kept["pushed"]
    clock = Clock(record.push_seconds)
    with run.bar(f"push {n}/{run.model.n_blocks}", len(rows), progress.pushed, unit="chunk") as bar:
        for count, (part, nfe) in enumerate(pusher.push(rows, progress.pushed), start=1):
            end = progress.pushed + len(part)
            pushed[progress.pushed : end] = part
            run.kept["pushed"] = pushed[:end]
            bar.update(len(part))
            progress.pushed = end
            record.push_nfe = max(record.push_nfe, nfe)
            record.push_seconds = clock.seconds()
            if end < len(rows):
                if run.should_stop(SYNC_EVERY):
                    run.save_and_stop(trainer)
                if count % options.checkpoint_every == 0:
                    run.checkpoint(trainer)
    run.write(
        PUSH,
        seconds=record.push_seconds,
        nfe=record.push_nfe,
        std=float(pushed.std()),
        mean=float(pushed.mean()),
    )
    kept = {"train": pushed}
    if validation is not None:
        kept["validation"] = torch.cat([part for part, _ in pusher.push(validation)])
    run.kept = kept
    progress.phase, progress.pushed = TRAIN, 0


class BlockPusher:
    """Integrates the chunks of rows through one block, from t = 0 to t = 1.

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
        self._accelerator = accelerator

    def push(self, rows: ChunkRows, begin: int = 0) -> Iterator[tuple[Tensor, int]]:
        """Yield (chunks, NFE): the pushed chunks of ``rows`` from row ``begin`` on, in order.

        Several processes push one batch each per round; every process gets the whole round.

        Raises:
            TrainingError: the block's velocity cannot be integrated.
        """
        world, rank = self._accelerator.num_processes, self._accelerator.process_index
        while begin < len(rows):
            pushed, nfe = self._push_rows(rows, begin + rank * self._batch_size)
            if world > 1:
                pushed = self._gather_round(pushed, len(rows) - begin)
            begin += len(pushed)
            yield pushed, nfe

    @torch.no_grad()
    def _push_rows(self, rows: ChunkRows, begin: int) -> tuple[Tensor, int]:
        end = min(begin + self._batch_size, len(rows))
        if begin >= end:
            return torch.zeros(0, *self._model.chunk_shape, device=rows.device), 0
        idx = torch.arange(begin, end, device=rows.device)
        condition = rows.condition(idx)
        cond = self._model.encoder(condition) if isinstance(condition, dict) else condition
        cond = with_prefix(cond, rows.prefix(idx))
        try:
            result = self._chain.push_forward(rows.chunks(idx), cond, solver=self._solver)
        except FloatingPointError as error:
            raise TrainingError(
                f"block {self._n} cannot be integrated for the push-forward: {error}. It is "
                "trained too little or too fast: raise training.total_steps, lower "
                "training.learning_rate, or choose push_forward.solver=heun"
            ) from None
        if not bool(torch.isfinite(result.x).all()):
            raise TrainingError(f"the push-forward through block {self._n} is not finite")
        return result.x, result.nfe

    def _gather_round(self, chunks: Tensor, left: int) -> Tensor:
        """Return the chunks of all processes of one round, in order."""
        padded = torch.zeros(self._batch_size, *chunks.shape[1:], device=chunks.device)
        padded[: len(chunks)] = chunks
        gathered: Tensor = self._accelerator.gather(padded)
        return gathered[:left]
