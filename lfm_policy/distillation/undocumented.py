"""Students of teachers that do not say what they were trained on, such as imported policies.

Demonstrations can be given, by ``dataset.path``. Without any a recording of what a robot saw
stands in for them: students need observations to ask the teacher about, and its answers are all
that they imitate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.derived import DERIVATIONS
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.replay_buffer import ACTION_KEY
from lfm_policy.data.tools.detect import detect_format
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.distillation.own.config import dataset_of_teacher
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import CheckpointHeader
from lfm_runtime.disk.files import exists


def is_undocumented(teacher: CheckpointHeader) -> bool:
    """Whether nothing is known of the demonstrations that a teacher was trained on."""
    return not teacher.spec.fingerprint


def with_observations(
    config: ExperimentConfig, teacher: CheckpointHeader
) -> tuple[ExperimentConfig, bool]:
    """Return the options of a student with data to learn from, where its teacher has none.

    Args:
        config: of the student.
        teacher: its teacher.

    Returns:
        The options, and whether the first recording of ``distill.recording`` has taken the place
        of demonstrations; it is then the ``dataset``, and no longer among the recordings.

    Raises:
        InputError: there are neither demonstrations nor recordings.
    """
    dataset, own = config.dataset, bool(config.distill.student_config)
    if getattr(dataset, "path", None):
        if own or not is_undocumented(teacher):
            return config, False
        config = replace(config, dataset=_of_its_format(dataset))
        if _says_what_is_seen(config.dataset):
            return config, False
        return replace(config, dataset=_named_as_seen(config, teacher)), False
    if not is_undocumented(teacher) and getattr(dataset, "path", None) is None:
        return config, False  # a format of a plugin, that reads no path
    recordings = config.distill.recording
    if not recordings:
        raise InputError(
            f"{teacher.folder}: does not say where its demonstrations are, as imported policies "
            "do not: give a recording of what a robot saw, whoever moved it "
            "(lfm-policy control ... --record seen.zarr), by distill.recording=seen.zarr; or "
            "demonstrations, by dataset.path"
        )
    keys = _observed(dataset) if own else list(teacher.spec.obs_shapes)
    stands_in = ZarrConfig(
        path=recordings[0],
        obs_keys=keys,
        max_episodes=dataset.max_episodes,
        validation_ratio=dataset.validation_ratio,
        split_seed=dataset.split_seed,
    )
    rest = replace(config.distill, recording=list(recordings[1:]))
    return replace(config, dataset=stands_in, distill=rest), True


def identity_of_data(
    config: ExperimentConfig, teacher: CheckpointHeader, image_cache: Path, *, quiet: bool
) -> str:
    """Return the identity of what a student learns from, which sees what its teacher sees.

    Raises:
        InputError: it lacks an observation of the teacher, or has it or actions in another shape.
    """
    cache = ImageCache(image_cache, teacher.config.encoder.frame_size)
    buffer = config.dataset.load(cache, quiet=quiet)
    spec = teacher.spec
    expected = {ACTION_KEY: (spec.action_dim,), **spec.obs_shapes}
    buffer.check_shapes(expected, f"the teacher {teacher.folder}")
    return buffer.fingerprint()


def with_actions_of(teacher: Normalizer, seen: Normalizer) -> Normalizer:
    """Return a normaliser whose actions have the range of the teacher's.

    What was done while a recording was made says nothing about what the student may do.
    """
    return Normalizer(
        {key: (teacher if key == ACTION_KEY else seen)[key] for key in tuple(seen.keys())}
    )


def _of_its_format(dataset: DatasetConfig) -> DatasetConfig:
    """Return the same options of the format that the demonstrations have.

    Such a teacher knows of none, so the format of the configuration is nobody's choice.
    """
    given: Any = dataset
    path = Path(given.path).expanduser()
    if not exists(path):
        return dataset
    form = DATASET_FORMATS.get(detect_format(path))
    if isinstance(dataset, form):
        return dataset
    known = {item.name for item in fields(form)} - {"name"}
    return form(**{name: value for name, value in asdict(given).items() if name in known})


def _says_what_is_seen(dataset: DatasetConfig) -> bool:
    return any(getattr(dataset, name, None) for name in ("obs_keys", "derive", "rename"))


def _named_as_seen(config: ExperimentConfig, teacher: CheckpointHeader) -> DatasetConfig:
    """Return how demonstrations are read so that arrays have the names that the teacher knows."""
    found = dataset_of_teacher(config, teacher)
    stored: Sequence[str] = getattr(found, "obs_keys", ())
    names = dict(zip(stored, teacher.spec.obs_shapes, strict=False))
    if not hasattr(found, "rename"):
        return found
    options: dict[str, Any] = asdict(found)
    return type(found)(**options | {"rename": names})


def _observed(dataset: DatasetConfig) -> list[str]:
    """Return what a policy calls the arrays that a dataset is to read."""
    derive = getattr(dataset, "derive", None)
    keys = list(getattr(dataset, "obs_keys", ()))
    if not keys and derive:
        keys = list(DERIVATIONS.get(derive).outputs)
    names = getattr(dataset, "rename", {})
    return [names.get(key, key) for key in keys]
