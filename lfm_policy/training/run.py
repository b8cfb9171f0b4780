"""One training in its folder: data, networks, where it stands, what it writes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_int_from_env
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.config import ExperimentConfig, config_to_dict, config_to_yaml
from lfm_policy.data.dataset import DatasetBundle, WindowDataset
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.device import choose_device
from lfm_policy.errors import InputError, Interrupted, TrainingError
from lfm_policy.policy.checkpoint import (
    TRAIN_STATE,
    CheckpointHeader,
    read_model_state,
    write_checkpoint,
)
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.accelerator import available_options, make_accelerator
from lfm_policy.training.auxiliary.targets import also_trained_on, marks, read_targets
from lfm_policy.training.rows.data import IMAGE_CACHE, data_spec, load_datasets
from lfm_policy.training.run_folder.best import BEST
from lfm_policy.training.run_folder.checkpoints import RunFolder
from lfm_policy.training.run_folder.metrics import MetricsLog, checkpoint_message
from lfm_policy.training.run_folder.resume import (
    CONFIG_COPY,
    check_same_data,
    find_resumable,
    is_finished,
)
from lfm_policy.training.run_folder.state import (
    PUSH,
    BlockRecord,
    Progress,
    progress_after,
    read_train_state,
    write_train_state,
)
from lfm_policy.training.run_folder.tracker import require_tracker
from lfm_policy.training.seeds import LATER_PASS, derived_seed
from lfm_policy.training.start.source import kept_normalizer, warn_of_new_ranges
from lfm_policy.training.steps import passes_of
from lfm_policy.training.trainer import Trainer
from lfm_runtime.disk.files import write_text
from lfm_runtime.interrupt import InterruptFlag
from lfm_runtime.policy.spec import DataSpec

JOINT = 0
"""Number of the part before block 1, in which the encoder learns with all blocks."""

SYNC_EVERY = 20
"""Steps between looks at values on a GPU and at the interrupts of other processes."""


class Run:
    """A training in a run folder, which any plan of what to train can use.

    The folder holds ``config.yaml``, ``metrics.jsonl``, what its tracker writes, ``checkpoints/``
    and ``latest``, which names the newest checkpoint.

    Attributes:
        config: all options.
        options: those of the training, without what cannot work on this machine.
        folder: the run folder.
        header: the checkpoint that is continued; None for a new run.
        source: the checkpoint that a new run starts from; None: from random weights.
        spec: shapes of the data.
        train_set: training windows, on the device.
        validation_set: validation windows.
        targets: what the encoder learns to tell besides; None for nothing.
        also_trained_on: what its encoder has learnt to tell besides, here or before, by the names
            that the data had for it.
        model: the networks. When a part is trained they hold its EMA weights.
        passes: gradient steps of each block, once, and again for steps that were added.
        progress: where the training stands.
        kept: tensors that checkpoints keep besides the part in work, by name.
        restored: tensors of the part in work of a checkpoint, for its trainer.
        facts: what its checkpoints say of it besides.
        interrupt: true once a signal came; None before `opened`.
        quiet: no progress bars, and nothing printed.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        folder: Path,
        *,
        device: str = "auto",
        resume: bool = False,
        bar_position: int = 0,
        quiet: bool = False,
        image_cache: Path | None = None,
        source: CheckpointHeader | None = None,
        normalizer: Normalizer | None = None,
    ) -> None:
        """Load the data and build the networks; nothing is written yet.

        Args:
            config: all options.
            folder: the run folder.
            device: ``auto``, ``cpu`` or ``cuda``.
            resume: go on from the newest checkpoint in ``folder``, if there is one.
            bar_position: line of the progress bar, for several runs on one terminal.
            quiet: no progress bars.
            image_cache: folder for decoded images; by default one beside the run folder.
            source: checkpoint that a new training starts from (``config.init``).
            normalizer: whose transforms stay; by default it is fitted, or that of the source.

        Raises:
            InputError: bad data or options, a folder that holds another run, or nothing that fits.
        """
        require_tracker(config.training.tracker)
        config = replace(config, encoder=config.encoder.resolved())
        self.folder = folder
        self.device = choose_device(device)
        self.options = available_options(config.training, self.device)
        self._run_folder = RunFolder(folder, keep=config.training.keep_checkpoints)
        # Of several processes the first one writes; it may be doing so already.
        if get_int_from_env(["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"], 0) == 0:
            self._run_folder.check_not_running()
        self.header: CheckpointHeader | None
        self.header, self.config = find_resumable(folder, config, resume=resume)
        self.passes = passes_of(self.config)
        image_cache = image_cache or folder.parent / IMAGE_CACHE
        self.source = source
        kept = normalizer or kept_normalizer(self.config, self.header or source)
        self.accelerator = make_accelerator(self.options, self.device)
        self.device = self.accelerator.device
        # The first process decodes frames; the others on the machine find them decoded.
        with self.accelerator.local_main_process_first():
            self.data: DatasetBundle = load_datasets(
                self.config, image_cache, kept=kept, for_training=True, quiet=quiet
            )
        if kept is not None and self.header is None and source is not None:
            warn_of_new_ranges(self.data.normalizer, kept, self.data.source)
        self.spec: DataSpec = data_spec(self.data)
        encoder = self.config.encoder.with_sizes(self.spec.obs_shapes)
        self.config = replace(self.config, encoder=encoder)
        if self.header is not None:
            check_same_data(self.header, self.spec)
        targets = read_targets(self.config, self.data, self.header)
        self._use_windows()
        self.targets = None if targets is None else targets.to(self.device)
        self.also_trained_on = also_trained_on(self.config, self.header, source)
        self.model = PolicyModel(self.config, self.spec)
        self.quiet = quiet or not self.accelerator.is_main_process
        self.progress = Progress(
            world=self.accelerator.num_processes,
            records=[BlockRecord() for _ in self.model.blocks],
        )
        self.kept: dict[str, Tensor] = {}
        self.restored: dict[str, Tensor] = {}
        self.facts: dict[str, Any] = {}
        self.interrupt: InterruptFlag | None = None
        self.bar_position = bar_position
        self._log: MetricsLog | None = None

    @property
    def already_complete(self) -> bool:
        """Whether the run had finished before, and no steps were added."""
        return is_finished(self.header, self.config)

    def steps(self, n: int) -> int:
        """Return the steps that part n gets in this pass."""
        return self.passes[self.progress.passed].steps(n)

    @property
    def pass_seed(self) -> int:
        """The seed of what is drawn in this pass; that of the options in the first."""
        passed, seed = self.progress.passed, self.config.seed
        return derived_seed(seed, LATER_PASS, passed) if passed else seed

    def start_pass(self, number: int) -> None:
        """Begin with the first part again: every block has learnt, and goes on from its weights."""
        self.progress.passed, self.progress.block = number, None
        self.kept = {}
        self._use_windows()  # an encoder may learn again, from images and not from old features

    def _use_windows(self) -> None:
        """Take the windows as they were loaded, to the device."""
        self.train_set: WindowDataset = self.data.train.to(self.device)
        # The same frames: they may fill half of a GPU.
        self.validation_set = self.train_set.with_index_of(self.data.validation)

    def restore(self) -> None:
        """Bring the networks to the device, and all to where the continued checkpoint stands.

        Raises:
            InputError: it is damaged, or was trained by another number of processes.
        """
        self.model.to(self.device).eval()
        if self.header is None:
            return
        self.model.load_state_dict(read_model_state(self.header))
        world = self.accelerator.num_processes
        if self.header.complete:
            passed = len(self.header.config.training.pass_ends)
            if not self.already_complete:
                self.progress = progress_after(self.header.training, passed=passed, world=world)
            return
        self.progress, self.restored, kept = read_train_state(self.header.folder / TRAIN_STATE)
        self.kept = {name: tensor.to(self.device) for name, tensor in kept.items()}
        if self.progress.world != world:
            raise InputError(
                f"{self.header.folder}: was trained by {self.progress.world} process(es), now "
                f"there are {world}; batches would differ, so start it with as many as before"
            )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Take the folder for this process, write the options, open the log, hear signals.

        Raises:
            InputError: another process trains in the folder, or the disk is full.
        """
        with self._run_folder.writing():
            if not self.accelerator.is_main_process:
                with InterruptFlag() as self.interrupt:
                    yield
                return
            found = None if self.header is None else self.header.folder
            with self._run_folder.running(found):
                log: dict[str, Any] = {
                    "tracker": self.config.training.tracker,
                    "run_name": self._tracked_name,
                    "options": config_to_dict(self.config),
                }
                if self.header is None:
                    self._run_folder.clear_leftovers()
                else:
                    log["resume_step"] = self.steps_done
                    log["checkpoint"] = self.header.folder.name
                write_text(self.folder / CONFIG_COPY, config_to_yaml(self.config))
                with (
                    MetricsLog(self.folder, **log) as self._log,
                    InterruptFlag() as self.interrupt,
                ):
                    yield

    @property
    def _tracked_name(self) -> str:
        """What a tracker shows: the name, and the folder where that is called otherwise."""
        name, own = self.config.name, self.folder.resolve().name
        return name if own == name else f"{name}-{own}"

    # -- stopping -----------------------------------------------------------------------------

    def should_stop(self, step: int) -> bool:
        """Whether a signal came, to this or another process; asked in every step."""
        stop = bool(self.interrupt)
        if self.accelerator.num_processes == 1:
            return stop
        if step % SYNC_EVERY:
            return False
        flag = torch.tensor([float(stop)], device=self.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def save_and_stop(self, trainer: Trainer) -> None:
        """Write a checkpoint and raise `Interrupted`."""
        self.checkpoint(trainer)
        name = self.interrupt.name if self.interrupt else ""
        raise Interrupted(
            f"stopped by {name or 'another process'} in block {trainer.n}, step "
            f"{trainer.step}; saved in {self.folder}; continue with --resume"
        )

    def stop_on_nan(self, trainer: Trainer) -> None:
        """Raise a `TrainingError` that says what was kept."""
        kept = self._run_folder.latest()
        where = f"the last good checkpoint is {kept}" if kept else "there is no checkpoint yet"
        self.write("event", message="the loss is not finite")
        raise TrainingError(
            f"the loss of block {trainer.n} is not finite at step {trainer.step}; {where}. Lower "
            "training.learning_rate or training.gradient_clip, or check the data with "
            "'lfm-policy inspect'"
        )

    # -- checkpoints --------------------------------------------------------------------------

    def checkpoint(self, trainer: Trainer, *, complete: bool = False) -> Path:
        """Write a checkpoint and make it the latest; nobody ever sees half of one."""
        if not trainer.all_finite():
            self.stop_on_nan(trainer)
        progress = self.progress
        progress.trainer = trainer.numbers()
        # A number that grows through training and push-forward.
        position = progress.pushed if progress.phase == PUSH else self.steps_done
        again = f"pass{progress.passed + 1}-" if progress.passed else ""
        name = f"{again}block{trainer.n}-{progress.phase}-{position:09d}"
        if complete:
            name = self._run_folder.final_name(len(self.passes), self.steps_done)
        if self.accelerator.is_main_process:
            self._run_folder.write(name, lambda f: self._fill(f, trainer, complete))
            self.write("event", message=checkpoint_message(name))
        # It is there before any process reads it, or ends and with it all others.
        self.accelerator.wait_for_everyone()
        return self._run_folder.checkpoint(name)

    def write_best(self, trainer: Trainer, facts: dict[str, object]) -> None:
        """Write the policy as it is as the best one, with what its checkpoint is to say of that."""
        self._run_folder.replace(BEST, lambda f: self._fill_policy(f, trainer, False, facts))

    def state_with_ema(self, trainer: Trainer) -> dict[str, Tensor]:
        """Return the weights of a policy: the EMA of the part in work, and all others."""
        state = dict(self.model.state_dict())
        for key, value in trainer.ema().items():
            part, _, rest = key.partition(".")
            # A loss may train other networks too, which no policy needs.
            if part == "network":
                state[f"blocks.{trainer.n - 1}.{rest}"] = value
            elif part in ("encoder", "blocks"):
                state[key] = value
        return state

    def _fill(self, folder: Path, trainer: Trainer, complete: bool) -> None:
        """Write all files of a checkpoint."""
        if not complete:
            (folder / TRAIN_STATE).mkdir()
            write_train_state(folder / TRAIN_STATE, self.progress, trainer.tensors(), self.kept)
        self._fill_policy(folder, trainer, complete, {})

    def _fill_policy(
        self, folder: Path, trainer: Trainer, complete: bool, facts: dict[str, object]
    ) -> None:
        write_checkpoint(
            folder,
            config=self.config,
            spec=self.spec,
            model_state=self.state_with_ema(trainer),
            normalizer=self.data.normalizer,
            training=self._summary(complete) | facts,
        )

    def _summary(self, complete: bool) -> dict[str, object]:
        records, joint = self.progress.records, self.progress.encoder
        return {
            **marks(self.also_trained_on, self.targets),
            **self.facts,
            "complete": complete,
            "block_steps": [record.steps for record in records],
            "steps": self.steps_done,
            "encoder_steps": joint.steps,
            "encoder_seconds": joint.train_seconds,
            "train_seconds": joint.train_seconds + sum(r.train_seconds for r in records),
            "push_seconds": sum(record.push_seconds for record in records),
            "blocks": [asdict(record) for record in records],
            "world": self.progress.world,
            "parameters": self.model.parameter_counts(),
            "threads": torch.get_num_threads(),
            "device": str(self.device),
            "torch": torch.__version__,
            "train_windows": len(self.data.train),
            "train_episodes": len(self.data.train_episodes),
            "validation_episodes": len(self.data.validation_episodes),
        }

    # -- progress -----------------------------------------------------------------------------

    @property
    def steps_done(self) -> int:
        """Gradient steps of all parts so far."""
        return self.progress.encoder.steps + sum(r.steps for r in self.progress.records)

    def write(self, kind: str, **values: object) -> None:
        """Log metrics; numbers that are not finite are left out."""
        if self._log is not None:
            finite = {k: v for k, v in values.items() if not _is_not_finite(v)}
            block = self.progress.block or JOINT
            self._log.write(kind, block=block, step=self.steps_done, **finite)

    @contextmanager
    def bar(self, label: str, total: int, done: int, *, unit: str = "step") -> Iterator[tqdm]:
        """Show a progress bar."""
        with tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            position=self.bar_position,
            disable=self.quiet,
            dynamic_ncols=True,
            mininterval=0.5,
        ) as bar:
            yield bar


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
