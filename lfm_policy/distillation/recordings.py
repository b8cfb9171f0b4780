"""What teacher and student see of the same moments: in demonstrations, and in recordings.

Recordings are observations without demonstrations: the teacher can be asked about them all the
same, whoever acted there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.tools.contents import without_levels
from lfm_policy.data.windows import WindowIndex, warn_of_short_episodes
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.distillation.own.config import dataset_of_teacher
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import CheckpointHeader, read_normalizer
from lfm_policy.training.rows.joined import JoinedWindows, Windows
from lfm_policy.training.run import Run
from lfm_runtime.disk.files import exists
from lfm_runtime.policy.spec import DataSpec

_ROWS = 4096
"""Windows whose actions are compared at a time."""


@dataclass(frozen=True)
class Moments:
    """The same windows as the student and as the teacher sees them.

    Attributes:
        student: windows of what the student sees.
        teacher: windows of what the teacher sees; the same object where that is the same.
        student_data: identity of the data, for features of frames that are kept.
        teacher_data: the same of the teacher's.
    """

    student: WindowDataset
    teacher: WindowDataset
    student_data: str
    teacher_data: str


def joined(parts: Sequence[WindowDataset]) -> Windows:
    """Return windows of all parts, one dataset after the other."""
    return parts[0] if len(parts) == 1 else JoinedWindows(parts)


def read_recordings(
    config: ExperimentConfig, teacher: CheckpointHeader, image_cache: Path, *, quiet: bool
) -> list[ReplayBuffer]:
    """Read what the teacher is asked about in recordings (``distill.recording``).

    Args:
        config: of the student.
        teacher: whose observations these must hold, in its units.
        image_cache: folder for decoded images.
        quiet: no progress bars.

    Raises:
        InputError: one is no such recording; the message says what is missing or differs.
    """
    cache = ImageCache(image_cache, teacher.config.encoder.frame_size)
    owner = f"the teacher {teacher.folder}"
    return [
        read_observations(path, teacher.spec, cache, owner, quiet=quiet)
        for path in config.distill.recording
    ]


def read_observations(
    path: str, spec: DataSpec, cache: ImageCache, owner: str, *, quiet: bool
) -> ReplayBuffer:
    """Read what a robot saw, as ``lfm-policy control --record`` writes it.

    Args:
        path: zarr store whose ``data/<key>`` are observations.
        spec: the observations to read, and their shapes.
        cache: of decoded images.
        owner: whose observations they are, for messages.
        quiet: no progress bars.

    Raises:
        InputError: it is no such recording; the message says what is missing or differs.
    """
    depth = {key: list(ends) for key, ends in spec.depth.items()}
    config = without_levels(ZarrConfig(path=path, obs_keys=list(spec.obs_shapes), depth=depth))
    buffer = config.load(cache, quiet=quiet)
    buffer.check_shapes({ACTION_KEY: (spec.action_dim,), **spec.obs_shapes}, owner)
    return buffer


def fingerprint_of(recordings: Sequence[ReplayBuffer]) -> str:
    """Return the identity of the data of recordings; empty for none."""
    fingerprints = [recording.fingerprint() for recording in recordings]
    if len(fingerprints) < 2:
        return "".join(fingerprints)
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def read_for_teacher(
    config: ExperimentConfig, teacher: CheckpointHeader, image_cache: Path, *, quiet: bool
) -> ReplayBuffer:
    """Read what the teacher sees in the demonstrations of a student that sees something else.

    Raises:
        InputError: they lack an observation of the teacher, or have it in another shape.
    """
    dataset = dataset_of_teacher(config, teacher)
    cache = ImageCache(image_cache, teacher.config.encoder.frame_size)
    expected = ", ".join(f"{key} {tuple(shape)}" for key, shape in teacher.spec.obs_shapes.items())
    try:
        buffer = dataset.load(cache, quiet=quiet)
        buffer.check_shapes(teacher.spec.obs_shapes, f"the teacher {teacher.folder}")
    except InputError as error:
        if not exists(Path(getattr(dataset, "path", "")).expanduser()):
            raise
        raise InputError(
            f"{error}. The demonstrations have to hold what the teacher {teacher.folder} observes "
            f"({expected}), beside what the student does: choose others with dataset.path, or say "
            "with distill.teacher_dataset how these are read"
        ) from None
    return buffer


def demonstrated(run: Run, teacher: CheckpointHeader, seen: ReplayBuffer) -> Moments:
    """Return the training windows of a student, with what the teacher sees there.

    Args:
        run: of the student.
        teacher: its teacher.
        seen: what the teacher sees, see `read_for_teacher`.

    Raises:
        InputError: these are not the same episodes, or other actions.
    """
    own = run.train_set
    dim, expected = run.spec.action_dim, teacher.spec.action_dim
    if dim != expected:
        raise InputError(
            f"{run.data.source}: actions have {dim} numbers, expected {expected}, as the teacher "
            f"{teacher.folder} gives them: a student learns its teacher's chunks"
        )
    if run.spec.tasks and teacher.spec.tasks and {*run.spec.tasks} != {*teacher.spec.tasks}:
        raise InputError(
            f"{run.data.source}: tasks are {', '.join(run.spec.tasks)}, expected those of the "
            f"teacher {teacher.folder}, in any order: {', '.join(teacher.spec.tasks)}"
        )
    moments = _moments(own, seen, teacher, read_normalizer(teacher), run.spec.fingerprint)
    if not _same_actions(own, moments.teacher):
        raise InputError(
            f"{run.data.source}: holds other actions than {seen.source} as the teacher reads it: "
            "expected the same ones, because a student acts as its teacher does; check "
            "dataset.action_key, dataset.action_space and distill.teacher_dataset"
        )
    return moments


def _same_actions(own: WindowDataset, other: WindowDataset) -> bool:
    """Whether the actions in all windows are the same, to the bit."""
    other = other.with_index(own.index)
    return all(
        torch.equal(own.gather_action(rows), other.gather_action(rows))
        for rows in torch.arange(len(own), device=own.device).split(_ROWS)
    )


def recorded(
    run: Run,
    teacher: CheckpointHeader,
    seen: ReplayBuffer,
    path: str,
    image_cache: Path,
) -> Moments:
    """Return the windows of all episodes of a recording as student and teacher see them.

    Args:
        run: of the student.
        teacher: its teacher.
        seen: what the teacher sees there.
        path: of the recording.
        image_cache: folder for decoded images.

    Raises:
        InputError: the recording lacks an observation of a student that sees something else, or
            every episode is too short for a window.
    """
    buffer, policy = seen, run.config.policy
    if run.config.distill.student_config:
        cache = ImageCache(image_cache, run.config.encoder.frame_size)
        buffer = read_observations(path, run.spec, cache, "the student", quiet=run.quiet)
    horizons = (policy.n_obs_steps, policy.horizon, policy.n_action_steps)
    index = WindowIndex(buffer.episode_ends, *horizons, source=buffer.source)
    warn_of_short_episodes(buffer.episode_lengths, *horizons, source=buffer.source)
    own = WindowDataset(buffer, run.data.normalizer, index, run.train_set.obs_keys).to(run.device)
    data = buffer.fingerprint()
    if buffer is seen:
        return Moments(own, own, data, data)
    return _moments(own, seen, teacher, read_normalizer(teacher), data)


def _moments(
    own: WindowDataset,
    seen: ReplayBuffer,
    teacher: CheckpointHeader,
    normalizer: Normalizer,
    student_data: str,
) -> Moments:
    if not np.array_equal(own.episode_ends, seen.episode_ends):
        raise InputError(
            f"{seen.source}: holds {seen.n_episodes} episodes of {seen.n_steps} steps in all as "
            f"the teacher reads it, and the student's demonstrations {len(own.episode_ends)} of "
            f"{own.n_frames}: expected the same episodes; check distill.teacher_dataset"
        )
    index = own.index.with_history(teacher.config.policy.n_obs_steps, seen.episode_ends)
    windows = WindowDataset(seen, normalizer, index, list(teacher.spec.obs_shapes))
    return Moments(own, windows.to(own.device), student_data, seen.fingerprint())
