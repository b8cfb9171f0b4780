"""Training by Algorithm 1: block after block, push-forward between them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.block_networks import network_configs
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.errors import InputError, Interrupted
from lfm_policy.policy import PolicyModel
from lfm_policy.policy.checkpoint import CheckpointHeader, read_model_state
from lfm_policy.training.block import BlockTrainer
from lfm_policy.training.blockwise import SYNC_EVERY, BlockwiseRun
from lfm_policy.training.encoder_objective import STAGE, EncoderObjective, SharedEncoderLoss
from lfm_policy.training.features import FEATURES, with_frozen_features
from lfm_policy.training.flow_objective import FlowLoss, FlowObjective
from lfm_policy.training.meters import Clock
from lfm_policy.training.objective import BlockObjective
from lfm_policy.training.prefixes import TrainingPrefixes
from lfm_policy.training.push import BlockPusher
from lfm_policy.training.source import ChunkSource, encode_all
from lfm_policy.training.state import PUSH, TRAIN
from lfm_policy.training.weights import draw_initial_weights


class TrainingRun(BlockwiseRun):
    """Trains the blocks of one policy, 1 (data side) to N (noise side)."""

    def __init__(
        self,
        config: ExperimentConfig,
        folder: Path,
        *,
        device: str = "auto",
        resume: bool = False,
        only_block: int | None = None,
        initial_encoder: dict[str, Tensor] | None = None,
        progress_position: int = 0,
        quiet: bool = False,
        image_cache: Path | None = None,
    ) -> None:
        """Prepare the run; nothing is written yet.

        Args:
            config: all options.
            folder: the run folder.
            device: ``auto``, ``cpu`` or ``cuda``.
            resume: go on from the newest checkpoint in ``folder``, if there is one.
            only_block: train just this block (parallel block training).
            initial_encoder: weights of a frozen encoder (with ``only_block``).
            progress_position: line of the progress bar, for several runs on one terminal.
            quiet: no progress bars.
            image_cache: folder for decoded images; by default one beside the run folder.

        Raises:
            InputError: bad data or options, a folder that holds another run, or nothing that fits.
        """
        super().__init__(
            config,
            folder,
            device=device,
            resume=resume,
            progress_position=progress_position,
            quiet=quiet,
            image_cache=image_cache,
        )
        config = self.config
        self._only_block = only_block
        self._parallel = config.training.block_training == "parallel"
        self._encoder_training = config.training.encoder
        self._has_stage = self._encoder_training == "joint"
        if self._has_stage and not self._model.encoder.trained_parameters():
            raise InputError(
                f"training.encoder is '{self._encoder_training}', but the encoder "
                f"'{config.encoder.name}' has nothing to train; use training.encoder=block1"
            )
        if only_block is None and self._header is None:
            warn_first_block_teaches_little(config, self._model)
        self._progress.block = STAGE if self._has_stage and only_block in (None, 1) else 1
        if only_block not in (None, 1):
            self._progress.block = only_block
        draw_initial_weights(self._model, config, self.spec)
        if initial_encoder is not None:
            self._model.encoder.load_state_dict(initial_encoder)
        self._model.to(self._device).eval()
        # The data of the block in work, from block 2 on, and what was pushed through it so far.
        self._chunks: Tensor | None = None
        self._validation_chunks: Tensor | None = None
        self._pushed: Tensor | None = None
        self._restored_block: dict[str, Tensor] = {}
        if self._header is not None:
            self._restore(self._header)

    def _run_blocks(self) -> Path:
        last = self._only_block or len(self._steps)
        if self.config.training.joint_only:
            last = STAGE
        trainer: BlockTrainer | None = None
        for n in range(self._progress.block, last + 1):
            self._freeze_encoder(n)
            previous, trainer = trainer, self._make_trainer(n)
            self._start_weights(trainer, previous)
            self._progress.block = n
            if self._progress.phase == TRAIN:
                self._train_block(trainer)
            trainer.apply_ema()
            if STAGE < n < last and not self._parallel:
                self._freeze_encoder(n + 1)
                self._push_block(trainer)
            self._accelerator.free_memory()
        assert trainer is not None
        return self._checkpoint(trainer, complete=True)

    def _make_trainer(self, n: int) -> BlockTrainer:
        options, steps = self._options, self.config.training.encoder_steps
        if n != STAGE:
            steps = self._steps[n - 1]
        if self._trains_encoder(n):
            options = replace(
                options,
                batch_size=options.encoder_batch_size or options.batch_size,
                learning_rate=options.encoder_learning_rate or options.learning_rate,
            )
        return BlockTrainer(
            options,
            self._objective(n),
            self._accelerator,
            seed=self.config.seed,
            n_steps=steps,
        )

    def _trains_encoder(self, n: int) -> bool:
        """Whether the encoder learns with block n (or stage 0); otherwise it is frozen."""
        if not self._model.encoder.trained_parameters():
            return False
        first = STAGE if self._has_stage else 1
        return n == first

    def _freeze_encoder(self, n: int) -> None:
        """Let features stand in for images from block n on, if the encoder is frozen by then."""
        frozen = not self._trains_encoder(n) and self._train_set.image_keys
        if not frozen or self._train_set.n_views:
            return
        self._train_set = with_frozen_features(
            self._train_set,
            self._model.encoder,
            self.config,
            self.spec.fingerprint,
            self.folder / FEATURES,
            stop=self._stop_between_features,
            write=self._accelerator.is_main_process,
            quiet=self._quiet,
        )
        self._validation_set = self._train_set.with_index_of(self._validation_set)

    def _stop_between_features(self) -> None:
        if self._interrupt and self._accelerator.num_processes == 1:
            raise Interrupted(
                f"stopped by {self._interrupt.name} while features were computed; what was trained "
                f"is saved in {self.folder}; continue with --resume"
            )

    def _objective(self, n: int) -> BlockObjective:
        source = self._source(n, self._train_set, self._chunks)
        if n == STAGE:
            loss = SharedEncoderLoss(self._model, compile=self._options.compile)
            return EncoderObjective(self._options, loss, source)
        return FlowObjective(
            self._options, self._model, n, source, trains_encoder=self._trains_encoder(n)
        )

    def _source(self, n: int, dataset: WindowDataset, chunks: Tensor | None) -> ChunkSource:
        frozen = not self._trains_encoder(n)
        cond = encode_all(self._model, dataset, self._options.batch_size) if frozen else None
        prefixes = None
        if self._model.prefix is not None:
            prefixes = TrainingPrefixes(self._model.prefix, len(dataset), self.config.seed)
        if n > 1 and self._parallel:
            marginal = self._model.schedule.marginal(n - 1)
            return ChunkSource(dataset, marginal=marginal, cond=cond, prefixes=prefixes)
        pushed = chunks if n > 1 else None
        return ChunkSource(dataset, pushed=pushed, cond=cond, prefixes=prefixes)

    def _start_weights(self, trainer: BlockTrainer, previous: BlockTrainer | None) -> None:
        """Resume, or start from the previous block's weights, or leave the initial ones."""
        if self._restored_block:
            latest = self._run_folder.latest()
            trainer.load(self._restored_block, self._progress.trainer, str(latest))
            self._restored_block = {}
            return
        warm = self._options.warm_start and not self._parallel
        if self._encoder_training == "joint":
            warm = False  # every block has learnt already
        if warm and previous is not None and previous.n != STAGE:
            networks = network_configs(self.config)
            if networks[trainer.n - 1] == networks[previous.n - 1]:
                trainer.warm_start(previous.tensors(), previous.numbers()["average_steps"])

    def _validation_loss(self, trainer: BlockTrainer) -> float | None:
        if self._validation_set is None:
            return None
        source = self._source(trainer.n, self._validation_set, self._validation_chunks)
        loss_module = trainer.loss_module
        objective: BlockObjective
        if isinstance(loss_module, SharedEncoderLoss):
            objective = EncoderObjective(self._options, loss_module, source)
        else:
            assert isinstance(loss_module, FlowLoss)
            objective = FlowObjective(
                self._options,
                self._model,
                trainer.n,
                source,
                trains_encoder=False,
                loss_module=loss_module,
            )
        return trainer.validation_loss(objective, self._options.batch_size)

    # -- push-forward -------------------------------------------------------------------------

    def _push_block(self, trainer: BlockTrainer) -> None:
        """Push the whole training set through block n; its results are the data of block n+1."""
        progress, options = self._progress, self.config.push_forward
        n, record = trainer.n, self._progress.records[trainer.n - 1]
        progress.phase = PUSH
        source = self._source(n, self._train_set, self._chunks)
        pusher = BlockPusher(self._model, n, options, self._accelerator)
        if self._pushed is None:
            self._pushed = torch.zeros(len(source), *self._model.chunk_shape, device=self._device)
        clock = Clock(record.push_seconds)
        with self._bar(f"push {n}/{len(self._steps)}", len(source), progress.pushed) as bar:
            for count, (rows, nfe) in enumerate(pusher.push(source, progress.pushed), start=1):
                end = progress.pushed + len(rows)
                self._pushed[progress.pushed : end] = rows
                bar.update(len(rows))
                progress.pushed = end
                record.push_nfe = max(record.push_nfe, nfe)
                record.push_seconds = clock.seconds()
                if end < len(source):
                    if self._should_stop(SYNC_EVERY):
                        self._save_and_stop(trainer)
                    if count % options.checkpoint_every == 0:
                        self._checkpoint(trainer)
        self._write(
            PUSH,
            seconds=record.push_seconds,
            nfe=record.push_nfe,
            std=float(self._pushed.std()),
            mean=float(self._pushed.mean()),
        )
        if self._validation_set is not None:
            validation = self._source(n, self._validation_set, self._validation_chunks)
            self._validation_chunks = torch.cat([rows for rows, _ in pusher.push(validation)])
        self._chunks, self._pushed = self._pushed, None
        progress.phase, progress.pushed = TRAIN, 0

    # -- resuming -----------------------------------------------------------------------------

    def _kept_tensors(self) -> dict[str, Tensor]:
        chunks = {}
        if self._chunks is not None:
            chunks["train"] = self._chunks
        if self._validation_chunks is not None:
            chunks["validation"] = self._validation_chunks
        if self._pushed is not None:
            chunks["pushed"] = self._pushed[: self._progress.pushed]
        return chunks

    def _restore(self, header: CheckpointHeader) -> None:
        self._model.load_state_dict(read_model_state(header))
        if header.complete:
            return
        self._restored_block, chunks = self._restore_progress(header)
        on_device = {key: value.to(self._device) for key, value in chunks.items()}
        self._chunks = on_device.get("train")
        self._validation_chunks = on_device.get("validation")
        if "pushed" in on_device:
            n_rows = len(self._train_set)
            self._pushed = torch.zeros(n_rows, *self._model.chunk_shape, device=self._device)
            self._pushed[: self._progress.pushed] = on_device["pushed"]


def warn_ignored_warm_start(config: ExperimentConfig) -> None:
    """Say that warm start has no meaning when blocks do not wait for one another."""
    training = config.training
    if training.block_training == "parallel" and training.warm_start and config.flow.n_blocks > 1:
        warnings.warn(
            "training.warm_start has no effect with training.block_training=parallel: the blocks "
            "do not wait for one another",
            stacklevel=2,
        )


def warn_first_block_teaches_little(config: ExperimentConfig, model: PolicyModel) -> None:
    """Say that an encoder learns little with the first of several blocks.

    That block takes the last noise off a chunk, for which it hardly needs to see; docs/results.md
    has the comparison.
    """
    several = config.flow.n_blocks > 1 and config.training.encoder == "block1"
    if several and model.encoder.trained_parameters():
        warnings.warn(
            f"training.encoder is 'block1' with {config.flow.n_blocks} blocks: the first one only "
            "takes the last noise off a chunk, and teaches the encoder little. Use "
            "training.encoder=joint and training.encoder_steps",
            stacklevel=2,
        )
