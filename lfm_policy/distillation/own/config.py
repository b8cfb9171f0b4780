"""Students with a configuration of their own: other observations, another encoder.

What such a student sees, and with what, is said by its own configuration (``--student-config``);
what it has to imitate, by its teacher: the chunk, its scale, and the chain of blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

from lfm_policy.config import ExperimentConfig, config_to_dict
from lfm_policy.config.block_networks import student_network
from lfm_policy.config.distillation import STUDENT_TRAINING
from lfm_policy.config.load import (
    Source,
    config_from_sources,
    config_sources,
    merged_sources,
    recognised_format,
)
from lfm_policy.config.schema import DATASET
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.derived import DERIVATIONS
from lfm_policy.data.tools.contents import stored_name
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import checked
from lfm_policy.policy.checkpoint import CheckpointHeader, require_sampleable
from lfm_runtime.disk.files import exists
from lfm_runtime.policy.spec import TASK_KEY

OwnConfig: TypeAlias = str | Path | Mapping[str, Any]
"""A bundled name, a file, or what such a file says."""

OWN_TRAINING: dict[str, Any] = {
    **STUDENT_TRAINING,
    "encoder": "joint",
    "encoder_learning_rate": 1e-3,
}
"""Where its configuration does not say otherwise: as all students, and an encoder first."""

FROM_TEACHER = ("flow", "sampler", "push_forward")
"""Sections that a student has of its teacher: what carries noise to a chunk."""

MUST_AGREE = (
    *("policy.horizon", "policy.n_action_steps", "policy.max_prefix"),
    "normalization.action",
)
"""What a chunk is; a student learns its teacher's."""

READING = ("obs_keys", "rename", "derive", "action_key", "action_space", "depth")
"""Options of datasets that say which arrays are read, and how."""


def own_options(
    own: OwnConfig, teacher: CheckpointHeader, student: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """Return all options of a student that has a configuration of its own.

    In that configuration ``training`` is how the student trains, and so is what it says under
    ``distill.training`` and ``distill.network``. What it does not say of the chunk, the history and
    the place of the data is as the teacher has it.

    Args:
        own: the configuration.
        teacher: checkpoint of the teacher.
        student: the options that a student of this teacher has otherwise, by section.
        overrides: strings ``section.key=value``.

    Raises:
        InputError: a file or an override is wrong.
    """
    sources = config_sources(own, overrides)
    said, _ = merged_sources(sources)
    known = config_to_dict(teacher.config)
    policy, scaling = known["policy"], {"action": known["normalization"]["action"]}
    training = dict(OWN_TRAINING)
    if "learning_rate" in said.get("training", {}):
        training["encoder_learning_rate"] = 0.0  # that one
    before = {"training": training, "policy": policy, "normalization": scaling}
    sources = [Source("defaults", before), *sources]
    if not said.get("dataset", {}).get("path"):
        path = getattr(teacher.config.dataset, "path", "")
        sources.append(Source(str(teacher.folder), {"dataset": {"path": path}}))
    decided = {section: dict(student[section]) for section in FROM_TEACHER}
    sources.append(Source(str(teacher.folder), {**decided, "init": {"source": ""}}))
    config = config_from_sources([*recognised_format(sources), *sources])
    network = student_network(config)
    options = config_to_dict(config) | {section: student[section] for section in FROM_TEACHER}
    options["network"] = asdict(network)
    if config.distill.network != {}:
        options["block_networks"] = []
    options["training"] |= said.get("distill", {}).get("training") or {}
    if not config.encoder.learns:
        options["training"] |= {"encoder": "block1", "encoder_steps": 0}
    options["distill"] |= {
        "network": {},
        "training": {},
        "student_config": config.name,
        "teacher_obs": list(teacher.spec.obs_shapes),
    }
    return options


def with_earlier_round(config: ExperimentConfig, source: CheckpointHeader) -> ExperimentConfig:
    """Return the options of a student that starts from one of an earlier round.

    Raises:
        InputError: the two are not students of one configuration and one scale of actions.
    """
    require_sampleable(source)
    own, before = config.distill, source.config.distill
    if not own.student_config:
        raise InputError(
            "--init-from is for students with a configuration of their own: give --student-config; "
            "others start from their teacher's weights"
        )
    if own.student_config != before.student_config:
        raise InputError(
            f"{source.folder}: cannot be started from: expected a student with the configuration "
            f"'{own.student_config}' of its own (--student-config), found "
            f"'{before.student_config}'"
        )
    if own.teacher != before.teacher:
        raise InputError(
            f"{source.folder}: cannot be started from: it is a student of the teacher "
            f"{before.teacher[:12]}, expected {own.teacher[:12]}: rounds are about one teacher"
        )
    if config.init.blocks == "new":
        raise InputError(
            "init.blocks is 'new', but a student goes on with blocks and encoder of an earlier "
            "round: leave it out"
        )
    return replace(config, init=replace(config.init, source=source.sha256))


def check_chunks_agree(config: ExperimentConfig, teacher: CheckpointHeader) -> None:
    """Check that a chunk of the student is what a chunk of its teacher is.

    Raises:
        InputError: its length, what is executed of it, or its scale is another.
    """
    for key in MUST_AGREE:
        section, _, name = key.partition(".")
        found, expected = (
            getattr(getattr(options, section), name) for options in (config, teacher.config)
        )
        if found != expected:
            raise InputError(
                f"{config.distill.student_config}: {key} is {found!r}, expected {expected!r} as "
                f"the teacher {teacher.folder} has it: a student learns its teacher's chunks; add "
                f"{key}={expected}"
            )
    training = config.training
    if config.encoder.learns and training.encoder != "joint":
        raise InputError(
            f"{config.distill.student_config}: training.encoder is '{training.encoder}', expected "
            "'joint': the encoder of a student learns with all its blocks at once"
        )


def dataset_of_teacher(config: ExperimentConfig, teacher: CheckpointHeader) -> DatasetConfig:
    """Return how the teacher's observations are read from the student's demonstrations.

    Demonstrations, and which of them, are the student's. Arrays are read as the teacher reads its
    own, where they are stored so; else by the names that the teacher knows.
    ``distill.teacher_dataset`` has the last word.

    Raises:
        InputError: ``distill.teacher_dataset`` has a wrong option.
    """
    own, known = asdict(config.dataset), asdict(teacher.config.dataset)
    stored = _stored(config.dataset)
    if own["name"] == known["name"] and _is_stored(known, stored):
        own |= {name: known[name] for name in READING if name in known}
    else:
        unsaid: dict[str, Any] = {"obs_keys": [], "rename": {}, "derive": None, "depth": {}}
        own |= {name: value for name, value in unsaid.items() if name in own}
    if own.get("obs_keys") == [] and not own.get("derive"):
        names = {name: key for key, name in own.get("rename", {}).items()}
        seen = [key for key in teacher.spec.obs_shapes if key != TASK_KEY]
        found = {key: stored_name(names.get(key, key), stored) for key in seen}
        own["obs_keys"] = list(found.values())
        own["depth"] = {found[key]: list(ends) for key, ends in teacher.spec.depth.items()}
    if teacher.spec.tasks:  # in its order, which its numbers of tasks are of
        own["tasks"] = list(teacher.spec.tasks)
    own |= config.distill.teacher_dataset
    try:
        read: DatasetConfig = checked(DATASET.options_class(own), own)
    except OptionError as error:
        raise InputError(str(error.under("distill", "teacher_dataset"))) from None
    return read


def _stored(dataset: DatasetConfig) -> Collection[str]:
    """Return the names of what a dataset stores; none where that is not known."""
    path = Path(getattr(dataset, "path", "")).expanduser()
    return type(dataset).contents(path).stored if exists(path) else ()


def _is_stored(reading: Mapping[str, Any], stored: Collection[str]) -> bool:
    """Whether what options of a dataset read is there."""
    needed, derive = set(reading.get("obs_keys", ())), reading.get("derive")
    if derive:
        derivation = DERIVATIONS.get(derive)
        needed = (needed - set(derivation.outputs)) | set(derivation.inputs)
    return needed <= set(stored)
