"""Algorithm A.1: student blocks from the noise to the data, each on its group's pairs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.training import DistillConfig
from lfm_policy.data.dataset import JoinedWindows, WindowDataset, Windows
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.distillation.estimate import estimate_student
from lfm_policy.distillation.group import group_edges, teacher_groups, teacher_solver
from lfm_policy.distillation.methods import METHODS
from lfm_policy.distillation.recordings import windows_of_recording
from lfm_policy.distillation.samples import SampleFolder, TeacherSamples, samples_key
from lfm_policy.errors import InputError, Interrupted
from lfm_policy.flow import FlowBlock, MeanVelocityMethod
from lfm_policy.flow.fitting import copy_fitting_weights, load_fitting_weights
from lfm_policy.flow.guidance import plain_network
from lfm_policy.networks.conditioning import with_more_times
from lfm_policy.policy.checkpoint import CheckpointHeader, read_model_state
from lfm_policy.policy.model import PolicyModel
from lfm_policy.training.estimate.advice import Names
from lfm_policy.training.estimate.estimate import Estimate
from lfm_policy.training.estimate.trial import Counts
from lfm_policy.training.rows.features import FEATURES, with_frozen_features
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.run import Run
from lfm_policy.training.run_folder.meters import Clock
from lfm_policy.training.run_folder.resume import check_same_data
from lfm_policy.training.start.weights import draw_initial_weights
from lfm_policy.training.trainer import Part, Trainer


class DistillPlan:
    """Students of one step each, N' (noise side) to 1: each may learn from what those before do."""

    def __init__(
        self,
        run: Run,
        teacher: CheckpointHeader,
        pairs_folder: Path,
        recording: ReplayBuffer | None = None,
    ) -> None:
        """Load the teacher, and draw the student's weights or take up what is continued.

        Args:
            run: of the student.
            teacher: checkpoint of the teacher.
            pairs_folder: where the teacher's samples are kept, for other students too.
            recording: what a robot saw, about which the teacher is asked too.

        Raises:
            InputError: other demonstrations than the teacher's, a recording of other observations
                than the teacher's, options that do not fit it or the method, or a checkpoint that
                cannot be continued here.
        """
        config, options = run.config, run.config.distill
        self._run = run
        self._pairs_folder = pairs_folder
        self._loss_class = METHODS.get(options.method)
        check_same_data(teacher, run.spec)
        self._recording: WindowDataset | None = None
        if recording is not None:
            self._recording = windows_of_recording(recording, run.data, teacher).to(run.device)
        if run.accelerator.num_processes > 1:
            raise InputError(
                f"distillation runs in one process, there are {run.accelerator.num_processes}; "
                "start it without 'accelerate launch'"
            )
        if config.policy.max_prefix != teacher.config.policy.max_prefix:
            raise InputError(
                f"policy.max_prefix is {config.policy.max_prefix}, expected the teacher's "
                f"{teacher.config.policy.max_prefix}: a student sees what its teacher saw"
            )
        self._loss_class.check(config)
        _warn_of_unused(config)
        teacher_model = PolicyModel(teacher.config, teacher.spec)
        teacher_model.load_state_dict(read_model_state(teacher))
        teacher_model.to(run.device).eval().requires_grad_(False)
        solver = teacher_solver(options, teacher.config)
        edges = group_edges(teacher.config.flow.n_blocks, config.flow.n_blocks, options.groups)
        chain = teacher_model.chain(options.teacher_guidance)
        self._groups = teacher_groups(chain, edges, solver)
        draw_initial_weights(run.model, config, run.spec)
        # The encoder is the teacher's, frozen: students see what their teacher saw.
        run.model.encoder.load_state_dict(teacher_model.encoder.state_dict())
        for student, group in zip(run.model.blocks, self._groups, strict=True):
            if options.warm_start:
                _start_from(student, group.chain.block(group.last))
        run.restore()

    def numbers(self) -> Sequence[int]:
        """Return the numbers of the blocks, in the order in which they are trained."""
        return range(self._run.model.n_blocks, 0, -1)

    def part(self, n: int) -> Part:
        """Return what student block n learns."""
        run = self._run
        train, validation = self._samples
        record = run.progress.records[n - 1]
        clock = Clock(record.push_seconds)
        passed = run.progress.passed
        pairs = train.pairs(n, passed)
        validation_pairs = None if validation is None else validation.pairs(n, passed)
        record.push_seconds = clock.seconds()
        loss = self._loss_class(
            run.model.blocks[n - 1],
            self._groups[n - 1],
            run.config.distill,
            action_weights(run.config).to(run.device),
        )
        return Part(n, loss, pairs, validation_pairs, run.steps(n), run.options)

    def estimate(self) -> Estimate:
        """Return how long what is left will take."""
        run, recording = self._run, self._recording
        counts = Counts.of(run)
        # Those of the demonstrations are there, unless somebody removed them.
        unknown = counts.frames if not any(self._features.glob("*.safetensors")) else 0
        if recording is not None:
            unknown += recording.n_frames
            counts = replace(counts, windows=counts.windows + len(recording))
        asked_about = f"{len(run.train_set):,} demonstrated windows"
        if recording is not None:
            asked_about += f" and {len(recording):,} of distill.recording"
        has_images = bool(run.train_set.image_keys)
        return estimate_student(
            run,
            self._groups,
            counts,
            kept_rows=self._kept_rows(run.config.training.encoder_views if has_images else 0),
            unknown_frames=unknown if has_images else 0,
            names=Names(student_steps="training.total_steps", asked_about=asked_about),
        )

    def _kept_rows(self, n_views: int) -> int:
        """Return how many of the teacher's samples for all blocks there are already."""
        run, options = self._run, self._run.config.distill
        folder = SampleFolder(self._pairs_folder, self._stop_between_parts, run.quiet)

        def key(n: int) -> str:
            return samples_key(
                run.config,
                self._groups,
                n,
                points=self._loss_class.points(options),
                samples=options.samples,
                obs_noise=ObsNoise(run.options, run.train_set),
                n_views=n_views,
                run=run.folder,
                passed=run.progress.passed,
            )

        return sum(folder.n_rows(key(n), options.batch_size) for n in self.numbers())

    def finish(self, n: int, trainer: Trainer) -> None:
        """Do nothing: the next student asks the chain for what this one makes of its states."""

    @cached_property
    def _samples(self) -> tuple[TeacherSamples, TeacherSamples | None]:
        """Samples of the teacher for training and validation windows."""
        run, options = self._run, self._run.config.distill
        run.train_set = self._with_features(run.train_set, run.spec.fingerprint)
        run.validation_set = run.train_set.with_index_of(run.validation_set)
        observed: Windows = run.train_set
        if self._recording is not None:
            recorded = self._with_features(self._recording, options.recording_fingerprint)
            observed = JoinedWindows([run.train_set, recorded])
        folder = SampleFolder(self._pairs_folder, self._stop_between_parts, run.quiet)

        def samples(
            windows: Windows, n: int, obs_noise: ObsNoise, folder: SampleFolder | None
        ) -> TeacherSamples:
            return TeacherSamples(
                windows,
                config=run.config,
                model=run.model,
                groups=self._groups,
                points=self._loss_class.points(options),
                samples=n,
                obs_noise=obs_noise,
                folder=folder,
                run=run.folder,
            )

        train = samples(observed, options.samples, ObsNoise(run.options, observed), folder)
        if run.validation_set is None:
            return train, None
        exact = ObsNoise(replace(run.options, obs_noise=0.0), run.validation_set)
        return train, samples(run.validation_set, 1, exact, None)

    def _with_features(self, dataset: WindowDataset, fingerprint: str) -> WindowDataset:
        """Return the windows with features of the frozen encoder in place of any images."""
        if not dataset.image_keys:
            return dataset
        return with_frozen_features(
            dataset,
            self._run.model.encoder,
            self._run.config,
            fingerprint,
            self._features,
            stop=self._stop_between_parts,
            quiet=self._run.quiet,
        )

    @property
    def _features(self) -> Path:
        """Beside the teacher's samples, where the teacher itself keeps its own."""
        return self._pairs_folder.parent / FEATURES

    def _stop_between_parts(self) -> None:
        if self._run.interrupt:
            raise Interrupted(
                f"stopped by {self._run.interrupt.name} among the teacher's samples, which are "
                f"kept in {self._pairs_folder}; continue with --resume"
            )


def _start_from(student: nn.Module, block: FlowBlock) -> None:
    """Give a student the weights of the teacher's block, if they fit and mean the same to it."""
    is_velocity = block.method.config.has_velocity and block.velocity is block.network
    before = plain_network(block.network)
    if getattr(student, "n_times", 1) == 1:
        if is_velocity:
            copy_fitting_weights(student, before)
    elif isinstance(block.method, MeanVelocityMethod):
        copy_fitting_weights(student, before)
    elif is_velocity and isinstance(before, nn.Module):
        load_fitting_weights(student, with_more_times(student, before.state_dict()))


def action_weights(config: ExperimentConfig) -> Tensor:
    """Return how much each action of a chunk counts in the loss, (horizon,), 1 on average."""
    policy = config.policy
    weights = torch.full((policy.horizon,), config.distill.tail_weight)
    first = policy.n_obs_steps - 1
    weights[first : first + policy.n_action_steps] = 1.0
    return weights / weights.mean()


def _warn_of_unused(config: ExperimentConfig) -> None:
    """Say which options were set that only other methods know, or only trainings."""
    options, method = config.distill, config.flow.method
    for name in method.LEARNING:
        if (value := getattr(method, name)) != getattr(type(method)(), name):
            warnings.warn(
                f"flow.method.{name} is {value}, which means nothing to a student; how it learns "
                "is said by the options of distill",
                stacklevel=2,
            )
    used = METHODS.get(options.method).own_options
    others = {name for other in METHODS.names() for name in METHODS.get(other).own_options}
    for name in sorted(others.difference(used)):
        value = getattr(options, name)
        if value != getattr(DistillConfig(), name):
            warnings.warn(
                f"distill.{name} is {value}, which means nothing to the method '{options.method}'",
                stacklevel=2,
            )
