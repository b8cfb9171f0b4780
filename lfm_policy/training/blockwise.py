"""What every run over blocks shares: the step loop, checkpoints, metrics, interrupts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import get_int_from_env
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.config import ExperimentConfig, config_to_yaml
from lfm_policy.data.dataset import DatasetBundle
from lfm_policy.device import choose_device
from lfm_policy.errors import InputError, Interrupted, TrainingError
from lfm_policy.policy.checkpoint import TRAIN_STATE, CheckpointHeader, write_checkpoint
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.accelerator import available_options, make_accelerator
from lfm_policy.training.block import BlockTrainer
from lfm_policy.training.data import IMAGE_CACHE, data_spec, load_datasets
from lfm_policy.training.meters import Clock, RunningMean
from lfm_policy.training.metrics import MetricsLog, checkpoint_message
from lfm_policy.training.resume import CONFIG_COPY, check_same_data, find_resumable
from lfm_policy.training.run_folder import FINAL, RunFolder
from lfm_policy.training.shares import steps_of_blocks
from lfm_policy.training.state import (
    PUSH,
    TRAIN,
    BlockRecord,
    Progress,
    read_train_state,
    write_train_state,
)
from lfm_runtime.disk.files import write_text
from lfm_runtime.interrupt import InterruptFlag
from lfm_runtime.policy.spec import DataSpec

SYNC_EVERY = 20
"""Steps between looks at values on a GPU and at the interrupts of other processes."""


class BlockwiseRun(ABC):
    """A run that trains blocks one after the other in a run folder.

    The folder holds ``config.yaml``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and
    ``latest``, which names the newest checkpoint. Subclasses say what a block is trained on and
    what happens between two blocks.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        folder: Path,
        *,
        device: str = "auto",
        resume: bool = False,
        progress_position: int = 0,
        quiet: bool = False,
        image_cache: Path | None = None,
    ) -> None:
        """Load the data and build the networks; nothing is written yet.

        Args:
            config: all options.
            folder: the run folder.
            device: ``auto``, ``cpu`` or ``cuda``.
            resume: go on from the newest checkpoint in ``folder``, if there is one.
            progress_position: line of the progress bar, for several runs on one terminal.
            quiet: no progress bars.
            image_cache: folder for decoded images; by default one beside the run folder.

        Raises:
            InputError: bad data or options, a folder that holds another run, or nothing that fits.
        """
        config = replace(config, encoder=config.encoder.resolved())
        self.folder = folder
        self.config = config
        self._device = choose_device(device)
        self._options = available_options(config.training, self._device)
        self._steps = steps_of_blocks(config)
        self._run_folder = RunFolder(folder, keep=config.training.keep_checkpoints)
        # Of several processes the first one writes; it may be doing so already.
        if get_int_from_env(["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"], 0) == 0:
            self._run_folder.check_not_running()
        self._header: CheckpointHeader | None = find_resumable(folder, config, resume=resume)
        self._image_cache = image_cache or folder.parent / IMAGE_CACHE
        self._data: DatasetBundle = load_datasets(config, self._image_cache, quiet=quiet)
        self.spec: DataSpec = data_spec(self._data)
        if self._header is not None:
            check_same_data(self._header, self.spec)
        self._accelerator = make_accelerator(self._options, self._device)
        self._device = self._accelerator.device
        self._train_set = self._data.train.to(self._device)
        validation = self._data.validation
        self._validation_set = None if validation is None else validation.to(self._device)
        self._model = PolicyModel(config, self.spec)
        self._log: MetricsLog | None = None
        self._bar_position = progress_position
        self._quiet = quiet or not self._accelerator.is_main_process
        self._progress = Progress(
            block=1,
            world=self._accelerator.num_processes,
            records=[BlockRecord() for _ in self._steps],
        )

    @abstractmethod
    def _run_blocks(self) -> Path:
        """Train all blocks from where the run stands; returns the final checkpoint folder."""

    @abstractmethod
    def _validation_loss(self, trainer: BlockTrainer) -> float | None:
        """Return the loss on validation windows; None without any."""

    @abstractmethod
    def _kept_tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps for resuming, besides the block in work."""

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
        left_out = len(self._data.left_out_episodes)
        too_short = f", {left_out} left out as too short" if left_out else ""
        return (
            f"parameters: {counts}\n"
            f"data: {len(self._data.train):,} windows of {episodes} training episodes"
            f" ({validation} for validation{too_short}) from {self._data.source}\n"
            f"gradient steps: {self._describe_steps()}, "
            f"batch {self._options.batch_size} x {self._accelerator.num_processes} on "
            f"{self._device}"
        )

    def run(self) -> Path:
        """Train until done; returns the final checkpoint folder.

        Raises:
            InputError: another process trains in the folder, or the disk is full; the last good
                checkpoint was kept.
            Interrupted: SIGINT, SIGTERM or SIGHUP came; a checkpoint was written.
            TrainingError: the loss became NaN; the last good checkpoint was kept.
        """
        if self.already_complete:
            assert self._header is not None
            return self._header.folder
        with self._run_folder.writing():
            if not self._accelerator.is_main_process:
                return self._run_logged()
            found = None if self._header is None else self._header.folder
            with self._run_folder.running(found):
                if self._header is None:
                    self._run_folder.clear_leftovers()
                write_text(self.folder / CONFIG_COPY, config_to_yaml(self.config))
                with MetricsLog(self.folder, **self._resumed()) as self._log:
                    return self._run_logged()

    def _resumed(self) -> dict[str, Any]:
        """Return from where on the log is written anew."""
        if self._header is None:
            return {}
        return {"resume_step": self._steps_done(), "checkpoint": self._header.folder.name}

    def _run_logged(self) -> Path:
        with InterruptFlag() as self._interrupt:
            return self._run_blocks()

    # -- training -----------------------------------------------------------------------------

    def _train_block(self, trainer: BlockTrainer) -> None:
        record = self._progress.record(trainer.n)
        total = trainer.n_steps
        if trainer.step > total:
            raise InputError(f"block {trainer.n} has {trainer.step} steps already, not {total}")
        clock = Clock(record.train_seconds)
        losses = RunningMean(self._device)
        label = f"block {trainer.n}/{len(self._steps)}" if trainer.n else "encoder"
        with self._bar(label, total, trainer.step) as bar:
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
        loss = self._validation_loss(trainer)
        if loss is not None:
            record.validation_loss = loss
            self._write("validation", loss=loss)

    def _stop_on_nan(self, trainer: BlockTrainer) -> None:
        kept = self._run_folder.latest()
        where = f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet"
        self._write("event", message="the loss is not finite")
        raise TrainingError(
            f"the loss of block {trainer.n} is not finite at step {trainer.step}; {where}. Lower "
            "training.learning_rate or training.gradient_clip, or check the data with "
            "'lfm-policy inspect'"
        )

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
        for key, value in trainer.ema().items():
            part, _, rest = key.partition(".")
            # A method of distillation may train other networks too, which no policy needs.
            if part == "network":
                state[f"blocks.{trainer.n - 1}.{rest}"] = value
            elif part in ("encoder", "blocks"):
                state[key] = value
        if not complete:
            (folder / TRAIN_STATE).mkdir()
            write_train_state(
                folder / TRAIN_STATE, self._progress, trainer.tensors(), self._kept_tensors()
            )
        write_checkpoint(
            folder,
            config=self.config,
            spec=self.spec,
            model_state=state,
            normalizer=self._data.normalizer,
            training=self._training_summary(complete),
        )

    def _restore_progress(
        self, header: CheckpointHeader
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take up the progress of a checkpoint; returns the block's tensors and the kept ones.

        Raises:
            InputError: damaged, or trained by another number of processes.
        """
        self._progress, block, kept = read_train_state(header.folder / TRAIN_STATE)
        world = self._accelerator.num_processes
        if self._progress.world != world:
            raise InputError(
                f"{header.folder}: was trained by {self._progress.world} process(es), now there "
                f"are {world}; batches would differ, so start it with as many as before"
            )
        return block, kept

    def _position(self) -> int:
        """Return a number that grows through training and push-forward."""
        progress = self._progress
        return progress.pushed if progress.phase == PUSH else self._steps_done()

    def _training_summary(self, complete: bool) -> dict[str, object]:
        records, encoder = self._progress.records, self._progress.encoder
        return {
            "complete": complete,
            "block_steps": [record.steps for record in records],
            "steps": self._steps_done(),
            "encoder_steps": encoder.steps,
            "encoder_seconds": encoder.train_seconds,
            "train_seconds": encoder.train_seconds + sum(r.train_seconds for r in records),
            "push_seconds": sum(record.push_seconds for record in records),
            "blocks": [asdict(record) for record in records],
            "world": self._progress.world,
            "parameters": self._model.parameter_counts(),
            "threads": torch.get_num_threads(),
            "device": str(self._device),
            "torch": torch.__version__,
            "train_windows": len(self._data.train),
        }

    # -- small things -------------------------------------------------------------------------

    def _steps_done(self) -> int:
        return self._progress.encoder.steps + sum(r.steps for r in self._progress.records)

    def _describe_steps(self) -> str:
        steps = list(self._steps)
        text = " + ".join(f"{s:,}" for s in steps) + f" = {sum(steps):,}"
        first = self.config.training.encoder_steps
        return f"encoder {first:,}, blocks {text}" if first else text

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
            unit="chunk" if label.startswith("push") else "step",
            position=self._bar_position,
            disable=self._quiet,
            dynamic_ncols=True,
            mininterval=0.5,
        ) as bar:
            yield bar


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
