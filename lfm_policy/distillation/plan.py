"""Algorithm A.1: student blocks from the noise to the data, each on its group's pairs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lfm_policy.config.training import TrainingConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.distillation.distance import distance_from_teacher
from lfm_policy.distillation.estimate import estimate_student
from lfm_policy.distillation.first_weights import start_from_block
from lfm_policy.distillation.group import group_edges, teacher_groups, teacher_solver
from lfm_policy.distillation.methods import METHODS
from lfm_policy.distillation.methods.base import action_weights
from lfm_policy.distillation.methods.unused import warn_of_unused
from lfm_policy.distillation.own.joint import JointRegression, Ways, draws_of, made_up_ways
from lfm_policy.distillation.recordings import Moments, demonstrated, joined, recorded
from lfm_policy.distillation.samples import SampleFolder, TeacherSamples, samples_key
from lfm_policy.distillation.seen import Seen
from lfm_policy.distillation.states import ChunkShift, Reach
from lfm_policy.distillation.undocumented import is_undocumented
from lfm_policy.errors import InputError, Interrupted
from lfm_policy.policy.checkpoint import CheckpointHeader, read_model_state
from lfm_policy.policy.model import PolicyModel
from lfm_policy.text.students import DISTANCE
from lfm_policy.training.auxiliary.loss import AuxiliaryLoss
from lfm_policy.training.estimate.advice import Names
from lfm_policy.training.estimate.estimate import Estimate
from lfm_policy.training.estimate.trial import Counts
from lfm_policy.training.rows.data import IMAGE_CACHE
from lfm_policy.training.rows.features import FEATURES, with_frozen_features
from lfm_policy.training.rows.joined import Windows
from lfm_policy.training.rows.obs_noise import ObsNoise, without_noise
from lfm_policy.training.rows.prefixes import TrainingPrefixes
from lfm_policy.training.run import JOINT, Run
from lfm_policy.training.run_folder.meters import Clock
from lfm_policy.training.run_folder.resume import check_same_data
from lfm_policy.training.start.source import start_from
from lfm_policy.training.start.weights import draw_initial_weights, new_cameras
from lfm_policy.training.trainer import Loss, Part, Rows, Trainer


class DistillPlan:
    """Students of one step each, N' (noise side) to 1: each may learn from what those before do.

    A student that sees something else than its teacher has an encoder of its own, which learns
    before, with all blocks at once (part 0), and is frozen then.
    """

    def __init__(
        self,
        run: Run,
        teacher: CheckpointHeader,
        pairs_folder: Path,
        recordings: Sequence[ReplayBuffer] = (),
        seen: ReplayBuffer | None = None,
        image_cache: Path | None = None,
    ) -> None:
        """Load the teacher, and draw the student's weights or take up what is continued.

        Args:
            run: of the student.
            teacher: checkpoint of the teacher.
            pairs_folder: where the teacher's samples are kept, for other students too.
            recordings: what robots saw, about which the teacher is asked too.
            seen: what the teacher sees in the demonstrations of a student that sees something
                else; None: the same.
            image_cache: folder for decoded images.

        Raises:
            InputError: other demonstrations than the teacher's, a recording of other observations
                than the teacher's, options that do not fit it or the method, or a checkpoint that
                cannot be continued here.
        """
        config, options = run.config, run.config.distill
        self._run = run
        self._pairs_folder = pairs_folder
        self._loss_class = METHODS.get(options.method)
        if run.accelerator.num_processes > 1:
            raise InputError(
                f"distillation runs in one process, there are {run.accelerator.num_processes}; "
                "start it without 'accelerate launch'"
            )
        self._own = seen is not None
        run.also_trained_on.update(teacher.also_trained_on)
        if seen is None:
            if not is_undocumented(teacher):
                check_same_data(teacher, run.spec)
            data = run.spec.fingerprint
            self._moments = [Moments(run.train_set, run.train_set, data, data)]
        else:
            self._moments = [demonstrated(run, teacher, seen)]
        cache = image_cache or run.folder.parent / IMAGE_CACHE
        if run.targets is not None and recordings:
            raise InputError(
                "auxiliary.keys with distill.recording: targets are read from the demonstrations, "
                "and recordings have none; leave one of them out"
            )
        self._moments += [
            recorded(run, teacher, buffer, path, cache)
            for buffer, path in zip(recordings, options.recording, strict=True)
        ]
        if config.policy.max_prefix != teacher.config.policy.max_prefix:
            raise InputError(
                f"policy.max_prefix is {config.policy.max_prefix}, expected the teacher's "
                f"{teacher.config.policy.max_prefix}: a student sees what its teacher saw"
            )
        self._loss_class.check(config)
        warn_of_unused(config)
        teacher_model = PolicyModel(teacher.config, teacher.spec)
        teacher_model.load_state_dict(read_model_state(teacher))
        teacher_model.to(run.device).eval().requires_grad_(False)
        self._teacher_model, self._teacher_config = teacher_model, teacher.config
        self._shift = ChunkShift(teacher.config.policy.n_obs_steps - config.policy.n_obs_steps)
        self._reach = Reach.of(teacher)
        solver = teacher_solver(options, teacher.config)
        edges = group_edges(teacher.config.flow.n_blocks, config.flow.n_blocks, options.groups)
        chain = teacher_model.chain(options.teacher_guidance)
        self._groups = teacher_groups(chain, edges, solver)
        new = new_cameras(run.model, run.header, run.source) if self._own else ()
        draw_initial_weights(run.model, config, run.spec, pretrained=new)
        if not self._own:
            # The encoder is the teacher's, frozen: students see what their teacher saw.
            run.model.encoder.load_state_dict(teacher_model.encoder.state_dict())
        for student, group in zip(run.model.blocks, self._groups, strict=True):
            if options.warm_start:
                start_from_block(student, group.chain.block(group.last))
        if run.source is not None and run.header is None:
            start_from(run.source, run.model, config, run.spec)
        run.restore()
        self._teacher_sight: tuple[TeacherSamples, TeacherSamples | None] | None = None
        self._student_sight: tuple[int, Seen, Seen | None] | None = None

    def on(self, run: Run) -> DistillPlan:
        """Return the same plan for a copy of its run."""
        other = copy.copy(self)
        other._run = run
        return other

    def numbers(self) -> Sequence[int]:
        """Return the numbers of the parts, in the order in which they are trained."""
        run = self._run
        parts = [JOINT] if self._own and run.model.encoder.trained_parameters() else []
        return [n for n in (*parts, *range(run.model.n_blocks, 0, -1)) if run.steps(n)]

    def part(self, n: int) -> Part:
        """Return what student block n learns, or encoder and blocks together for 0."""
        run = self._run
        record = run.progress.record(n)
        clock = Clock(record.push_seconds)
        train, validation = self._samples
        if n == JOINT:
            own = self._moments[0].student.with_index_of(run.validation_set)
            rows: Rows = self._ways(train, self._windows())
            held_out: Rows | None = None
            if validation is not None and own is not None:
                held_out = self._ways(validation, own)
            record.push_seconds = clock.seconds()
            weights = action_weights(run.config).to(run.device)
            actions = JointRegression(run.model, self._groups, run.config.distill, weights)
            loss: Loss = actions
            if run.targets is not None:
                auxiliary = run.config.auxiliary
                loss = AuxiliaryLoss(actions, run.targets, auxiliary, seed=run.pass_seed)
            return Part(n, loss, rows, held_out, run.steps(n), self.joint_options())
        seen, seen_there = self._students_sight()
        passed = run.progress.passed
        rows = train.pairs(n, seen, passed)
        held_out = None
        if validation is not None and seen_there is not None:
            held_out = validation.pairs(n, seen_there, passed)
        record.push_seconds = clock.seconds()
        loss = self._loss_class(
            run.model.blocks[n - 1],
            self._groups[n - 1],
            run.config.distill,
            action_weights(run.config).to(run.device),
        )
        return Part(n, loss, rows, held_out, run.steps(n), run.options)

    def joint_options(self) -> TrainingConfig:
        """Return the options of the steps in which the encoder learns."""
        return self._run.options.of_encoder()

    def estimate(self) -> Estimate:
        """Return how long what is left will take."""
        run, recorded_moments = self._run, self._moments[1:]
        counts = Counts.of(run)
        has_images = bool(run.train_set.image_keys)
        # Those of the demonstrations are there, unless somebody removed them.
        there = not self._own and any(self._features.glob("*.safetensors"))
        n_recorded = sum(len(moments.student) for moments in recorded_moments)
        unknown = sum(moments.student.n_frames for moments in recorded_moments)
        unknown += 0 if there else counts.frames
        counts = replace(counts, windows=counts.windows + n_recorded)
        asked_about = f"{len(run.train_set):,} demonstrated windows"
        if n_recorded:
            asked_about += f" and {n_recorded:,} of distill.recording"
        return estimate_student(
            run,
            self._groups,
            counts,
            kept_rows=self._kept_rows(),
            unknown_frames=unknown if has_images else 0,
            names=Names(student_steps="training.total_steps", asked_about=asked_about),
            teacher=self._teacher_model,
            encoder=self._trial_part if JOINT in self.numbers() else None,
        )

    def _trial_part(self, trial: Run) -> Part:
        """Return what encoder and blocks learn together, on made-up ways of a trial's windows."""
        rows = made_up_ways(trial)
        loss = JointRegression(trial.model, self._groups, trial.config.distill)
        return Part(JOINT, loss, rows, None, trial.steps(JOINT), self.on(trial).joint_options())

    def _kept_rows(self) -> int:
        """Return how many of the teacher's samples for all blocks there are already."""
        run, options = self._run, self._run.config.distill
        folder = SampleFolder(self._pairs_folder, self._stop_between_parts, run.quiet)
        windows = self._moments[0].teacher

        def key(n: int) -> str:
            return samples_key(
                run.config,
                self._groups,
                n,
                points=self._loss_class.points(options),
                samples=options.samples,
                n_rows=options.samples * sum(len(moments.student) for moments in self._moments),
                obs_noise=self._noise_of_teacher(windows),
                n_views=self._views_of_teacher if windows.image_keys else 0,
                model=run.model,
                inputs=options.inputs,
                passed=run.progress.passed,
            )

        blocks = range(1, run.model.n_blocks + 1)
        return sum(folder.n_rows(key(n), options.batch_size) for n in blocks)

    def finish(self, n: int, trainer: Trainer) -> None:
        """Note after the last part how far the student is from the teacher.

        The next part asks the chain for what this one makes of its states.
        """
        run, there = self._run, self._samples[1]
        if n != self.numbers()[-1] or there is None:
            return
        action, seen = run.data.normalizer[ACTION_KEY], self._students_sight()[1]
        assert seen is not None
        found = distance_from_teacher(run.model, run.config.policy, action, *there.ways(), seen)
        run.facts[DISTANCE] = found
        run.write(DISTANCE, **found)

    # -- what is seen ---------------------------------------------------------------------------

    @property
    def _samples(self) -> tuple[TeacherSamples, TeacherSamples | None]:
        """Samples of the teacher for training and validation windows."""
        if self._teacher_sight is None:
            run, options = self._run, self._run.config.distill
            folder = SampleFolder(self._pairs_folder, self._stop_between_parts, run.quiet)
            if self._own:
                demonstrated, *others = [self._for_teacher(moments) for moments in self._moments]
                observed = joined([demonstrated, *others])
                seen = self._seen(observed, self._teacher_model, options.samples, noise=False)
                there = None
                if run.validation_set is not None:
                    ends = demonstrated.episode_ends
                    history = self._teacher_config.policy.n_obs_steps
                    index = run.validation_set.index.with_history(history, ends)
                    held_out = demonstrated.with_index(index)
                    there = self._seen(held_out, self._teacher_model, 1, noise=False)
            else:
                seen, there = self._students_sight()
            train = self._samples_of(seen, options.samples, folder)
            held_out_samples = None if there is None else self._samples_of(there, 1, None)
            self._teacher_sight = train, held_out_samples
        return self._teacher_sight

    def _samples_of(self, seen: Seen, samples: int, folder: SampleFolder | None) -> TeacherSamples:
        run = self._run
        return TeacherSamples(
            config=run.config,
            model=run.model,
            groups=self._groups,
            points=self._loss_class.points(run.config.distill),
            samples=samples,
            teacher=seen,
            shift=self._shift,
            reach=self._reach,
            folder=folder,
        )

    def _students_sight(self) -> tuple[Seen, Seen | None]:
        """Return what the student sees by its frozen encoder, of training and validation windows.

        In another pass an encoder that learns sees otherwise.
        """
        run, passed = self._run, self._run.progress.passed
        if self._student_sight is None or (self._own and self._student_sight[0] != passed):
            parts = [self._with_features(m.student, m.student_data) for m in self._moments]
            seen = self._seen(joined(parts), run.model, run.config.distill.samples, noise=True)
            held_out = parts[0].with_index_of(run.validation_set)
            there = None
            if held_out is not None:
                there = self._seen(held_out, run.model, 1, noise=False)
            self._student_sight = passed, seen, there
        return self._student_sight[1:]

    def _seen(self, windows: Windows, model: PolicyModel, samples: int, *, noise: bool) -> Seen:
        run = self._run
        options = run.options if noise else without_noise(run.options)
        return Seen(
            windows,
            model,
            config=run.config,
            samples=samples,
            obs_noise=ObsNoise(options, windows),
        )

    def _windows(self) -> Windows:
        """Return all training windows as the student sees them, images as they are."""
        return joined([moments.student for moments in self._moments])

    def _ways(self, samples: TeacherSamples, windows: Windows) -> Ways:
        run = self._run
        noise, ends = samples.ways()
        prefixes = None
        if run.model.prefix is not None:
            prefixes = TrainingPrefixes(run.model.prefix, len(noise), run.config.seed, noise.device)
        noisy = ObsNoise(run.options, windows)
        draws = draws_of(run.options, len(noise) // len(windows))
        return Ways(noise, ends, windows, noisy, prefixes, run.targets, draws)

    def _noise_of_teacher(self, windows: Windows) -> ObsNoise:
        """Return how the teacher's observations are displaced: as the student's, or not at all."""
        options = self._run.options
        return ObsNoise(without_noise(options) if self._own else options, windows)

    @property
    def _views_of_teacher(self) -> int:
        """Views of each of its frames: what it sees has to belong to what the student sees."""
        return 1 if self._own else self._run.config.training.encoder_views

    def _with_features(self, dataset: WindowDataset, fingerprint: str) -> WindowDataset:
        """Return the windows with features of the frozen encoder in place of any images."""
        if not dataset.image_keys:
            return dataset
        run = self._run
        return with_frozen_features(
            dataset,
            run.model.encoder,
            run.config,
            fingerprint,
            run.folder / FEATURES if self._own else self._features,
            stop=self._stop_between_parts,
            quiet=run.quiet,
        )

    def _for_teacher(self, moments: Moments) -> WindowDataset:
        """Return what the teacher sees, with features in place of any images."""
        if not moments.teacher.image_keys:
            return moments.teacher
        config = self._teacher_config
        training = replace(config.training, encoder_views=self._views_of_teacher)
        return with_frozen_features(
            moments.teacher,
            self._teacher_model.encoder,
            replace(config, training=training),
            moments.teacher_data,
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
