"""One distillation run: student blocks from the noise to the data, each on its group's pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.joined import JoinedWindows, Windows
from lfm_policy.distill.group import group_edges, teacher_groups
from lfm_policy.distill.method import DistillLoss
from lfm_policy.distill.methods import METHODS
from lfm_policy.distill.objective import PairObjective, Pairs
from lfm_policy.distill.pair_source import PairSource
from lfm_policy.distill.pairs import in_parts
from lfm_policy.distill.recordings import read_observations, windows_of_recording
from lfm_policy.errors import InputError, Interrupted
from lfm_policy.flow import SolverSpec
from lfm_policy.policy.checkpoint import CheckpointHeader, read_model_state
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.block import BlockTrainer
from lfm_policy.training.blockwise import BlockwiseRun
from lfm_policy.training.data import IMAGE_CACHE
from lfm_policy.training.features import FEATURES, with_frozen_features
from lfm_policy.training.meters import Clock
from lfm_policy.training.obs_noise import ObsNoise
from lfm_policy.training.resume import check_same_data
from lfm_policy.training.weights import draw_initial_weights


class DistillRun(BlockwiseRun):
    """Distils a teacher into students of one step each, in a run folder like any other."""

    def __init__(
        self,
        config: ExperimentConfig,
        teacher: CheckpointHeader,
        folder: Path,
        *,
        pairs_folder: Path,
        device: str = "auto",
        resume: bool = False,
        quiet: bool = False,
        image_cache: Path | None = None,
    ) -> None:
        """Prepare the run; nothing is written yet.

        Args:
            config: of the student, see `lfm_policy.distill.student_config`.
            teacher: checkpoint of the teacher.
            folder: the run folder.
            pairs_folder: where the teacher's samples are kept, for other students too.
            device: ``auto``, ``cpu`` or ``cuda``.
            resume: go on from the newest checkpoint in ``folder``, if there is one.
            quiet: no progress bars.
            image_cache: folder for decoded images; by default one beside the run folder.

        Raises:
            InputError: bad options, other demonstrations than the teacher's, a recording of other
                observations than the teacher's, or a folder that holds another run.
        """
        image_cache = image_cache or folder.parent / IMAGE_CACHE
        options, recording = config.distill, None
        if options.recording:
            recording = read_observations(options.recording, teacher, image_cache, quiet=quiet)
            options = replace(options, recording_fingerprint=recording.fingerprint())
            config = replace(config, distill=options)
        super().__init__(
            config, folder, device=device, resume=resume, quiet=quiet, image_cache=image_cache
        )
        check_same_data(teacher, self.spec)
        self._recording: WindowDataset | None = None
        if recording is not None:
            windows = windows_of_recording(recording, self._data, teacher)
            self._recording = windows.to(self._device)
        if self._accelerator.num_processes > 1:
            raise InputError(
                f"distillation runs in one process, there are {self._accelerator.num_processes}; "
                "start it without 'accelerate launch'"
            )
        if config.policy.max_prefix != teacher.config.policy.max_prefix:
            raise InputError(
                f"policy.max_prefix is {config.policy.max_prefix}, expected the teacher's "
                f"{teacher.config.policy.max_prefix}: a student sees what its teacher saw"
            )
        self._pairs_folder = pairs_folder
        self._loss_class = METHODS.get(options.method)
        if options.inputs == "corrected" and self._loss_class.points(options) > 1:
            raise InputError(
                f"distill.inputs is 'corrected' with the method '{options.method}', which trains "
                "on the way between input and target: these lie on different ways; use inputs "
                "'student', or the method 'regression'"
            )
        if self._loss_class.full_noise and config.sampler.noise_scale != 1:
            raise InputError(
                f"sampler.noise_scale is {config.sampler.noise_scale:g}, expected 1 for the method "
                f"'{options.method}', which matches all that the teacher samples; add "
                "sampler.noise_scale=1"
            )
        self._teacher = PolicyModel(teacher.config, teacher.spec)
        self._teacher.load_state_dict(read_model_state(teacher))
        self._teacher.to(self._device).eval().requires_grad_(False)
        solver = SolverSpec(options.teacher_solver, options.teacher_steps)
        edges = group_edges(teacher.config.flow.n_blocks, config.flow.n_blocks, options.groups)
        self._groups = teacher_groups(self._teacher.chain(), edges, solver)
        draw_initial_weights(self._model, config, self.spec)
        # The encoder is the teacher's, frozen: students see what their teacher saw.
        self._model.encoder.load_state_dict(self._teacher.encoder.state_dict())
        if options.warm_start and teacher.config.flow.method == "velocity":
            self._take_teacher_weights()
        self._model.to(self._device).eval()
        # Beside the teacher's samples, where the teacher itself keeps its own.
        self._features_folder = pairs_folder.parent / FEATURES
        self._progress.block = config.flow.n_blocks
        self._restored: dict[str, Tensor] = {}
        if self._header is not None:
            self._model.load_state_dict(read_model_state(self._header))
            if not self._header.complete:
                self._restored, _ = self._restore_progress(self._header)
        self._validation_pairs: Pairs | None = None

    def _take_teacher_weights(self) -> None:
        """Start each student from the teacher block nearest the noise of its group, if it fits."""
        for student, group in zip(self._model.blocks, self._groups, strict=True):
            weights = self._teacher.blocks[group.last - 1].state_dict()
            own = student.state_dict()
            if {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in own.items()}:
                student.load_state_dict(weights)

    # -- the run ------------------------------------------------------------------------------

    def _run_blocks(self) -> Path:
        self._train_set = self._with_features(self._train_set, self.spec.fingerprint)
        self._validation_set = self._train_set.with_index_of(self._validation_set)
        observed: Windows = self._train_set
        if self._recording is not None:
            fingerprint = self.config.distill.recording_fingerprint
            recorded = self._with_features(self._recording, fingerprint)
            observed = JoinedWindows([self._train_set, recorded])
        source = partial(
            PairSource,
            config=self.config,
            model=self._model,
            groups=self._groups,
            points=self._loss_class.points(self.config.distill),
            run=self.folder,
        )
        train = source(
            observed,
            samples=self.config.distill.samples,
            obs_noise=ObsNoise(self._options, observed),
            fill=self._in_parts,
        )
        validation = None
        if self._validation_set is not None:
            exact = ObsNoise(replace(self._options, obs_noise=0.0), self._validation_set)
            validation = source(self._validation_set, samples=1, obs_noise=exact, fill=_at_once)
        trainer: BlockTrainer | None = None
        for n in range(self._progress.block, 0, -1):
            self._progress.block = n
            record = self._progress.records[n - 1]
            clock = Clock(record.push_seconds)
            pairs = train.pairs(n)
            self._validation_pairs = None if validation is None else validation.pairs(n)
            record.push_seconds = clock.seconds()
            loss = self._loss_class(
                self._model.blocks[n - 1],
                self._groups[n - 1],
                self.config.distill,
                action_weights(self.config).to(self._device),
            )
            trainer = BlockTrainer(
                self._options,
                PairObjective(n, loss, pairs),
                self._accelerator,
                seed=self.config.seed,
                n_steps=self._steps[n - 1],
            )
            if self._restored:
                trainer.load(self._restored, self._progress.trainer, str(self.folder))
                self._restored = {}
            self._train_block(trainer)
            trainer.apply_ema()
            self._accelerator.free_memory()
        assert trainer is not None
        return self._checkpoint(trainer, complete=True)

    def _with_features(self, dataset: WindowDataset, fingerprint: str) -> WindowDataset:
        """Return the windows with features of the frozen encoder in place of any images."""
        if not dataset.image_keys:
            return dataset
        return with_frozen_features(
            dataset,
            self._model.encoder,
            self.config,
            fingerprint,
            self._features_folder,
            stop=self._stop_between_parts,
            quiet=self._quiet,
        )

    def _validation_loss(self, trainer: BlockTrainer) -> float | None:
        if self._validation_pairs is None:
            return None
        loss = trainer.loss_module
        assert isinstance(loss, DistillLoss)
        objective = PairObjective(trainer.n, loss, self._validation_pairs)
        return trainer.validation_loss(objective, self._options.batch_size)

    def _kept_tensors(self) -> dict[str, Tensor]:
        return {}

    # -- teacher samples ----------------------------------------------------------------------

    def _in_parts(
        self,
        key: str,
        n_rows: int,
        shape: tuple[int, ...],
        make: Callable[[int, int], Tensor],
        label: str,
    ) -> Tensor:
        return in_parts(
            self._pairs_folder / key,
            n_rows,
            self.config.distill.batch_size,
            shape,
            make,
            label=label,
            stop=self._stop_between_parts,
            quiet=self._quiet,
        )

    def _stop_between_parts(self) -> None:
        if self._interrupt:
            raise Interrupted(
                f"stopped by {self._interrupt.name} among the teacher's samples, which are kept in "
                f"{self._pairs_folder}; continue with --resume"
            )


def _at_once(
    key: str,
    n_rows: int,
    shape: tuple[int, ...],
    make: Callable[[int, int], Tensor],
    label: str,
) -> Tensor:
    """Make all rows, keep none: validation pairs are few."""
    return make(0, n_rows).cpu()


def check_teacher(teacher: CheckpointHeader) -> None:
    """Check that a checkpoint can be a teacher.

    Raises:
        InputError: it is a student, or its training is not complete.
    """
    if teacher.config.distill.method:
        raise InputError(
            f"{teacher.folder}: is a student itself (distilled by '{teacher.config.distill.method}'"
            "); give the teacher's checkpoint"
        )
    if not teacher.complete:
        raise InputError(
            f"{teacher.folder}: its training is not complete; finish it with 'lfm-policy train ... "
            "--resume'"
        )


def action_weights(config: ExperimentConfig) -> Tensor:
    """Return how much each action of a chunk counts in the loss, (horizon,), 1 on average."""
    policy = config.policy
    weights = torch.full((policy.horizon,), config.distill.tail_weight)
    first = policy.n_obs_steps - 1
    weights[first : first + policy.n_action_steps] = 1.0
    return weights / weights.mean()
