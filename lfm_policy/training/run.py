"""One training run: block after block, push-forward between them, checkpoints along the way."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.config import ExperimentConfig, config_to_yaml
from lfm_policy.data import DatasetBundle, build_datasets
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.errors import InputError
from lfm_policy.files import write_text
from lfm_policy.policy.checkpoint import (
    TRAIN_STATE,
    CheckpointHeader,
    read_model_state,
    write_checkpoint,
)
from lfm_policy.policy.model import PolicyModel, network_configs
from lfm_policy.policy.spec import DataSpec
from lfm_policy.training.accelerator import available_options, choose_device, make_accelerator
from lfm_policy.training.block import BlockTrainer
from lfm_policy.training.errors import TrainingError
from lfm_policy.training.interrupt import Interrupted, InterruptFlag
from lfm_policy.training.meters import Clock, RunningMean
from lfm_policy.training.metrics import MetricsLog, checkpoint_message
from lfm_policy.training.push import BlockPusher
from lfm_policy.training.resume import CONFIG_COPY, check_same_data, find_resumable
from lfm_policy.training.run_folder import FINAL, RunFolder
from lfm_policy.training.seeds import INITIAL_WEIGHTS, derived_seed
from lfm_policy.training.source import ChunkSource, encode_all
from lfm_policy.training.state import (
    PUSH,
    TRAIN,
    BlockRecord,
    Progress,
    read_train_state,
    write_train_state,
)

SYNC_EVERY = 20
"""Steps between looks at values on a GPU and at the interrupts of other processes."""


def steps_of_blocks(config: ExperimentConfig) -> list[int]:
    """Return the gradient steps of each block; they add up to ``training.total_steps``."""
    n_blocks = config.flow.n_blocks
    shares = list(config.training.block_shares) or [1.0] * n_blocks
    total = config.training.total_steps
    ends = [round(total * sum(shares[: n + 1]) / sum(shares)) for n in range(n_blocks)]
    steps = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    if min(steps) < 1:
        raise InputError(
            f"training.block_shares gives block {steps.index(min(steps)) + 1} no step of "
            f"training.total_steps = {total}"
        )
    return steps


class TrainingRun:
    """Trains the blocks of one policy in a run folder.

    The folder holds ``config.yaml``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and
    ``latest``, which names the newest checkpoint.
    """

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

        Raises:
            InputError: bad data or options, a folder that holds another run, or nothing that fits.
        """
        self.folder = folder
        self.config = config
        self._device = choose_device(device)
        self._options = available_options(config.training, self._device)
        self._steps = steps_of_blocks(config)
        self._only_block = only_block
        self._parallel = config.training.block_training == "parallel"
        self._header = find_resumable(folder, config, resume=resume)
        self._run_folder = RunFolder(folder, keep=config.training.keep_checkpoints)
        self._data = load_datasets(config)
        self.spec = data_spec(self._data)
        if self._header is not None:
            check_same_data(self._header, self.spec)
        self._accelerator = make_accelerator(self._options, self._device)
        self._device = self._accelerator.device
        self._model = PolicyModel(config, self.spec)
        self._initialise_weights(initial_encoder)
        self._model.to(self._device).eval()
        self._train_set = self._data.train.to(self._device)
        validation = self._data.validation
        self._validation_set = None if validation is None else validation.to(self._device)
        self._bar_position = progress_position
        self._quiet = quiet or not self._accelerator.is_main_process
        self._chunks: Tensor | None = None
        self._validation_chunks: Tensor | None = None
        self._pushed: Tensor | None = None
        self._progress = Progress(
            block=only_block or 1,
            world=self._accelerator.num_processes,
            records=[BlockRecord() for _ in self._steps],
        )
        self._restored_block: dict[str, Tensor] = {}
        if self._header is not None:
            self._restore(self._header)

    # -- the run ------------------------------------------------------------------------------

    @property
    def model(self) -> PolicyModel:
        """The networks; after `run` they hold the averaged weights."""
        return self._model

    @property
    def already_complete(self) -> bool:
        """Whether the run had finished before."""
        return self._header is not None and self._header.complete

    @property
    def accelerator(self) -> Accelerator:
        """The processes and the device that train."""
        return self._accelerator

    def describe(self) -> str:
        """Return what is about to be trained, with parameter counts per block and in total."""
        counts = ", ".join(f"{k} {v:,}" for k, v in self._model.parameter_counts().items())
        episodes = len(self._data.train_episodes)
        validation = len(self._data.validation_episodes)
        return (
            f"parameters: {counts}\n"
            f"data: {len(self._train_set):,} windows of {episodes} training episodes"
            f" ({validation} for validation) from {self._data.source}\n"
            f"gradient steps: {' + '.join(f'{s:,}' for s in self._steps)} = {sum(self._steps):,}, "
            f"batch {self._options.batch_size} x {self._accelerator.num_processes} on "
            f"{self._device}"
        )

    def run(self) -> Path:
        """Train until done; returns the final checkpoint folder.

        Raises:
            Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
            TrainingError: the loss became NaN; the last good checkpoint was kept.
        """
        if self.already_complete:
            assert self._header is not None
            return self._header.folder
        main = self._accelerator.is_main_process
        resumed: dict[str, Any] = {}
        if self._header is not None:
            resumed = {"resume_step": self._steps_done(), "checkpoint": self._header.folder.name}
        if main:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._header is None:
                self._run_folder.clear_leftovers()
            write_text(self.folder / CONFIG_COPY, config_to_yaml(self.config))
        self._log = MetricsLog(self.folder, **resumed) if main else None
        try:
            with InterruptFlag() as self._interrupt:
                return self._run_blocks()
        finally:
            if self._log is not None:
                self._log.close()

    def _run_blocks(self) -> Path:
        last = self._only_block or len(self._steps)
        trainer: BlockTrainer | None = None
        for n in range(self._progress.block, last + 1):
            previous, trainer = trainer, self._make_trainer(n)
            self._start_weights(trainer, previous)
            self._progress.block = n
            if self._progress.phase == TRAIN:
                self._train_block(trainer)
            trainer.apply_average()
            if n < last and not self._parallel:
                self._push_block(trainer)
            self._accelerator.free_memory()
        assert trainer is not None
        return self._checkpoint(trainer, complete=True)

    def _make_trainer(self, n: int) -> BlockTrainer:
        return BlockTrainer(
            self._options,
            self._model,
            n,
            self._source(n, self._train_set, self._chunks),
            self._accelerator,
            seed=self.config.seed,
            n_steps=self._steps[n - 1],
        )

    def _source(self, n: int, dataset: WindowDataset, chunks: Tensor | None) -> ChunkSource:
        cond = encode_all(self._model, dataset, self._options.batch_size) if n > 1 else None
        if n > 1 and self._parallel:
            return ChunkSource(dataset, marginal=self._model.schedule.marginal(n - 1), cond=cond)
        return ChunkSource(dataset, pushed=chunks if n > 1 else None, cond=cond)

    def _start_weights(self, trainer: BlockTrainer, previous: BlockTrainer | None) -> None:
        """Resume, or start from the previous block's weights, or leave the initial ones."""
        if self._restored_block:
            latest = self._run_folder.latest()
            trainer.load(self._restored_block, self._progress.trainer, str(latest))
            self._restored_block = {}
        elif previous is not None and self._options.warm_start and not self._parallel:
            networks = network_configs(self.config)
            if networks[trainer.n - 1] == networks[previous.n - 1]:
                trainer.warm_start(previous.tensors(), previous.numbers()["average_steps"])

    # -- training -----------------------------------------------------------------------------

    def _train_block(self, trainer: BlockTrainer) -> None:
        record = self._progress.records[trainer.n - 1]
        total = self._steps[trainer.n - 1]
        if trainer.step > total:
            raise InputError(f"block {trainer.n} has {trainer.step} steps already, not {total}")
        clock = Clock(record.train_seconds)
        losses = RunningMean(self._device)
        with self._bar(f"block {trainer.n}/{len(self._steps)}", total, trainer.step) as bar:
            while trainer.step < total:
                loss, norm = trainer.train_step()
                losses.add(loss)
                step = trainer.step
                record.steps = step
                on_cpu = self._device.type == "cpu"
                if (on_cpu or step % SYNC_EVERY == 0 or step == total) and not losses.finite():
                    self._stop_on_nan(trainer)
                bar.update()
                record.train_seconds = clock.seconds()
                if step % self._options.log_every == 0 or step == total:
                    record.loss = losses.take()
                    bar.set_postfix(loss=f"{record.loss:.4f}", refresh=False)
                    self._write(
                        TRAIN,
                        loss=record.loss,
                        gradient_norm=float(norm),
                        learning_rate=trainer.learning_rate,
                        steps_per_second=step / max(clock.seconds(), 1e-9),
                    )
                if step % self._options.validation_every == 0 or step == total:
                    self._validate(trainer, record)
                if self._should_stop(step):
                    self._save_and_stop(trainer)
                if step % self._options.checkpoint_every == 0 and step < total:
                    self._checkpoint(trainer)

    def _validate(self, trainer: BlockTrainer, record: BlockRecord) -> None:
        if self._validation_set is None:
            return
        source = self._source(trainer.n, self._validation_set, self._validation_chunks)
        record.validation_loss = trainer.validation_loss(source, self._options.batch_size)
        self._write("validation", loss=record.validation_loss)

    def _stop_on_nan(self, trainer: BlockTrainer) -> None:
        kept = self._run_folder.latest()
        where = f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet"
        self._write("event", message="the loss is not finite")
        raise TrainingError(
            f"the loss of block {trainer.n} is not finite at step {trainer.step}; {where}. Lower "
            "training.learning_rate or training.gradient_clip, or check the data with "
            "'lfm-policy inspect'"
        )

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

    # -- checkpoints --------------------------------------------------------------------------

    def _should_stop(self, step: int) -> bool:
        stop = bool(self._interrupt)
        if self._accelerator.num_processes == 1:
            return stop
        if step % SYNC_EVERY:
            return False
        flag = torch.tensor([float(stop)], device=self._device)
        return bool(self._accelerator.reduce(flag, "sum") > 0)

    def _save_and_stop(self, trainer: BlockTrainer) -> None:
        self._checkpoint(trainer)
        raise Interrupted(
            f"stopped by {self._interrupt.name or 'another process'} in block {trainer.n}, step "
            f"{trainer.step}; saved in {self.folder}; continue with --resume"
        )

    def _checkpoint(self, trainer: BlockTrainer, *, complete: bool = False) -> Path:
        """Write a checkpoint and make it the latest; nobody ever sees half of one."""
        if not trainer.all_finite():
            self._stop_on_nan(trainer)
        progress = self._progress
        progress.trainer = trainer.numbers()
        name = FINAL if complete else f"block{trainer.n}-{progress.phase}-{self._position():09d}"
        if self._accelerator.is_main_process:
            self._run_folder.write(name, lambda f: self._fill(f, trainer, complete))
            self._write("event", message=checkpoint_message(name))
        # It is there before any process reads it, or ends and with it all others.
        self._accelerator.wait_for_everyone()
        return self._run_folder.checkpoint(name)

    def _fill(self, folder: Path, trainer: BlockTrainer, complete: bool) -> None:
        """Write all files of a checkpoint."""
        state = dict(self._model.state_dict())
        for key, value in trainer.averaged().items():
            part, _, rest = key.partition(".")
            prefix = "encoder" if part == "encoder" else f"blocks.{trainer.n - 1}"
            state[f"{prefix}.{rest}"] = value
        if not complete:
            (folder / TRAIN_STATE).mkdir()
            write_train_state(
                folder / TRAIN_STATE, self._progress, trainer.tensors(), self._chunk_tensors()
            )
        write_checkpoint(
            folder,
            config=self.config,
            spec=self.spec,
            model_state=state,
            normalizer=self._data.normalizer,
            training=self._training_summary(complete),
        )

    def _position(self) -> int:
        """Return a number that grows through training and push-forward."""
        progress = self._progress
        return progress.pushed if progress.phase == PUSH else self._steps_done()

    def _chunk_tensors(self) -> dict[str, Tensor]:
        chunks = {}
        if self._chunks is not None:
            chunks["train"] = self._chunks
        if self._validation_chunks is not None:
            chunks["validation"] = self._validation_chunks
        if self._pushed is not None:
            chunks["pushed"] = self._pushed[: self._progress.pushed]
        return chunks

    def _training_summary(self, complete: bool) -> dict[str, object]:
        records = self._progress.records
        return {
            "complete": complete,
            "block_steps": [record.steps for record in records],
            "steps": self._steps_done(),
            "train_seconds": sum(record.train_seconds for record in records),
            "push_seconds": sum(record.push_seconds for record in records),
            "blocks": [asdict(record) for record in records],
            "world": self._progress.world,
            "parameters": self._model.parameter_counts(),
            "threads": torch.get_num_threads(),
            "device": str(self._device),
            "torch": torch.__version__,
            "train_windows": len(self._train_set),
        }

    # -- start --------------------------------------------------------------------------------

    def _initialise_weights(self, encoder: dict[str, Tensor] | None) -> None:
        """Draw the initial weights of each part from its own seed, whatever the other parts."""
        parts: list[torch.nn.Module] = [self._model.encoder, *self._model.blocks]
        for position, part in enumerate(parts):
            torch.manual_seed(derived_seed(self.config.seed, INITIAL_WEIGHTS, position))
            fresh = (
                self.config.encoder.create(
                    dict(self.spec.obs_shapes), self.config.policy.n_obs_steps
                )
                if position == 0
                else network_configs(self.config)[position - 1].create(
                    self._model.chunk_shape, self._model.encoder.cond_dim
                )
            )
            part.load_state_dict(fresh.state_dict())
        if encoder is not None:
            self._model.encoder.load_state_dict(encoder)

    def _restore(self, header: CheckpointHeader) -> None:
        self._model.load_state_dict(read_model_state(header))
        if header.complete:
            return
        folder = header.folder / TRAIN_STATE
        self._progress, self._restored_block, chunks = read_train_state(folder)
        world = self._accelerator.num_processes
        if self._progress.world != world:
            raise InputError(
                f"{header.folder}: was trained by {self._progress.world} process(es), now there "
                f"are {world}; batches would differ, so start it with as many as before"
            )
        on_device = {key: value.to(self._device) for key, value in chunks.items()}
        self._chunks = on_device.get("train")
        self._validation_chunks = on_device.get("validation")
        if "pushed" in on_device:
            n_rows = len(self._train_set)
            self._pushed = torch.zeros(n_rows, *self._model.chunk_shape, device=self._device)
            self._pushed[: self._progress.pushed] = on_device["pushed"]

    # -- small things -------------------------------------------------------------------------

    def _steps_done(self) -> int:
        return sum(record.steps for record in self._progress.records)

    def _write(self, kind: str, **values: object) -> None:
        if self._log is not None:
            finite = {k: v for k, v in values.items() if not _is_not_finite(v)}
            self._log.write(kind, block=self._progress.block, step=self._steps_done(), **finite)

    @contextmanager
    def _bar(self, label: str, total: int, done: int) -> Iterator[tqdm]:
        with tqdm(
            total=total,
            initial=done,
            desc=label,
            unit="step" if label.startswith("block") else "chunk",
            position=self._bar_position,
            disable=self._quiet,
            dynamic_ncols=True,
            mininterval=0.5,
        ) as bar:
            yield bar


def load_datasets(config: ExperimentConfig) -> DatasetBundle:
    """Load the demonstrations of a configuration."""
    policy = config.policy
    return build_datasets(
        config.dataset,
        policy.n_obs_steps,
        policy.horizon,
        policy.n_action_steps,
        {"default": config.normalization.obs, "action": config.normalization.action},
    )


def data_spec(data: DatasetBundle) -> DataSpec:
    """Return what the networks have to know of the data."""
    return DataSpec(data.obs_shapes, data.action_dim, data.fingerprint)


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def warn_ignored_warm_start(config: ExperimentConfig) -> None:
    """Say that warm start has no meaning when blocks do not wait for one another."""
    training = config.training
    if training.block_training == "parallel" and training.warm_start and config.flow.n_blocks > 1:
        warnings.warn(
            "training.warm_start has no effect with training.block_training=parallel: the blocks "
            "do not wait for one another",
            stacklevel=2,
        )
