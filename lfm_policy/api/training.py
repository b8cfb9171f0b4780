"""Training and distillation as functions of objects, which return policies."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lfm_policy import assets
from lfm_policy.api.dataset import Dataset, write_zarr
from lfm_policy.api.episodes import Episode
from lfm_policy.checkpoint_folders import find_checkpoint, run_of_checkpoint
from lfm_policy.config import ExperimentConfig, load_config
from lfm_policy.config.load import changed_config, override_texts
from lfm_policy.data.lerobot.info import default_name
from lfm_policy.data.tools.contents import stored_name
from lfm_policy.data.tools.detect import detect_format, open_dataset
from lfm_policy.device import choose_device
from lfm_policy.distillation.student import distill as distill_checkpoint
from lfm_policy.errors import InputError
from lfm_policy.evaluation.evaluation import SelectionRollouts
from lfm_policy.policy import Policy, load_policy, read_header
from lfm_policy.training import train as train_config
from lfm_policy.training.start.source import tuned_config
from lfm_runtime.disk.files import exists

__all__ = ["distill", "train"]

DATASETS = "datasets"
"""Name of the folder, beside a run's, that holds what was given in memory."""


def train(
    config: str | Path | Mapping[str, Any] | ExperimentConfig | None = None,
    dataset: Dataset | str | Path | Iterable[Episode] | None = None,
    *,
    output: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    init_from: Policy | str | Path | None = None,
    quiet: bool = False,
    **options: Any,
) -> Policy:
    """Train a policy, and return it.

    ::

        policy = train("own/state", dataset, output="runs/arm", training={"total_steps": 2000})
        policy = train("pusht/lfm3", "demos.zarr", seed=1, **{"flow.n_blocks": 4})
        policy = train(init_from="pusht-state", dataset="mine.zarr", output="runs/mine")

    A run must be repeatable, so what is in memory only is written first: as a zarr store in
    ``datasets`` beside the run, named by its content, which the run's configuration points to.
    ``resume=True`` continues a run that was interrupted, and gives the policy of one that is
    complete at once, so a cell of a notebook can be run again; with more ``total_steps`` than
    before it goes on.

    Args:
        config: name of a bundled configuration, a YAML file, options, or a configuration; that of
            ``init_from`` by default, with a tenth of its steps.
        dataset: demonstrations, or where they are; of `dataset.path` by default. Where the
            configuration names no observations, the policy sees all of them but
            ``auxiliary.keys``; the encoder ``state`` sees no cameras.
        output: run folder; ``runs/<name>`` by default.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: go on from the newest checkpoint in ``output``, if there is one.
        init_from: a policy whose weights the training starts from, or where it is, see the options
            ``init``.
        quiet: no progress bars.
        **options: changed options by section, ``training={"total_steps": 2000}``, or by key,
            ``**{"training.total_steps": 2000}``.

    Returns:
        The policy, with its EMA weights, on ``device``; ``policy.info["checkpoint"]`` is its
        folder in the run.

    Raises:
        InputError: bad data or options, or ``output`` holds another run.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        TrainingError: the loss became NaN; the last good checkpoint was kept.
    """
    overrides = override_texts(options)
    source = run_of(init_from) if isinstance(init_from, Policy) else init_from
    changed: Callable[[Sequence[str]], ExperimentConfig]
    if config is not None:
        changed = partial(_changed, config)
    elif source is not None:
        changed = partial(tuned_config, read_header(source))
    else:
        raise InputError("which configuration? Give one, or a policy to start from: init_from")
    chosen = changed(overrides)
    folder = Path("runs") / chosen.name if output is None else Path(output)
    if dataset is not None:
        demonstrations = _dataset_options(dataset, chosen, folder)
        chosen = changed([*override_texts(demonstrations), *overrides])
    checkpoint = train_config(
        chosen,
        folder,
        device=device,
        resume=resume,
        init_from=source,
        rollouts=SelectionRollouts(),
        quiet=quiet,
    )
    return load_policy(checkpoint, device=choose_device(device))


def _changed(
    config: str | Path | Mapping[str, Any] | ExperimentConfig, overrides: Sequence[str]
) -> ExperimentConfig:
    if isinstance(config, ExperimentConfig):
        return changed_config(config, overrides)
    return load_config(config, overrides)


def distill(
    teacher: Policy | str | Path,
    *,
    nfe: int | None = None,
    groups: Sequence[int] = (),
    method: str = "regression",
    student_config: str | Path | Mapping[str, Any] | None = None,
    init_from: Policy | str | Path | None = None,
    output: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Policy:
    """Distil a policy into a student that takes one step per block, and return the student.

    ::

        student = distill(policy, nfe=1)
        student = distill("runs/arm", groups=(2, 1), training={"total_steps": 4000})
        student = distill("runs/pusht-lfm3", nfe=1, student_config="pusht/image_student")

    Args:
        teacher: a policy that was trained or loaded, as its checkpoint is configured; or a run or
            checkpoint folder.
        nfe: network evaluations of the student, a divisor or multiple of the teacher's blocks; 1
            by default.
        groups: instead, how many of the teacher's blocks each student block replaces.
        method: a distillation method: ``regression``, or another of those in
            ``lfm_policy.distillation.methods.METHODS``.
        student_config: configuration of a student that sees something else than its teacher: a
            bundled name, a file, or what such a file says.
        init_from: such a student of an earlier round, whose weights this one starts from.
        output: run folder; by default ``student-nfe<nfe>-<method>`` in the teacher's.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: go on from the newest checkpoint in ``output``, if there is one.
        quiet: no progress bars.
        **options: as for `train`; ``distill={"recording": "seen.zarr"}`` and the like too.

    Returns:
        The student, with its EMA weights, on ``device``.

    Raises:
        InputError: the teacher is a student itself or on no disk, or an option does not fit.
        Interrupted: SIGINT or SIGTERM came; what was done is kept.
        TrainingError: the loss became NaN.
    """
    checkpoint = distill_checkpoint(
        run_of(teacher) if isinstance(teacher, Policy) else teacher,
        None if output is None else Path(output),
        nfe=nfe or len(groups) or 1,
        method=method,
        groups=groups,
        overrides=override_texts(options),
        own=student_config,
        init_from=run_of(init_from) if isinstance(init_from, Policy) else init_from,
        device=device,
        resume=resume,
        rollouts=SelectionRollouts(),
        quiet=quiet,
    )
    return load_policy(checkpoint, device=choose_device(device))


def run_of(policy: Policy) -> str | Path:
    """Return what a policy was loaded from: its run folder, its checkpoint, or its bundled name.

    Raises:
        InputError: it is not on the disk.
    """
    checkpoint = Path(str(policy.info.get("checkpoint", "")))
    if not policy.info.get("checkpoint") or not exists(checkpoint):
        raise InputError(
            "the policy is on no disk: write it with policy.save(path), and load it from there"
        )
    if checkpoint.name in assets.POLICIES and checkpoint == assets.bundled_policy(checkpoint.name):
        return checkpoint.name
    run = run_of_checkpoint(checkpoint)
    return run if run is not None and find_checkpoint(run) == checkpoint else checkpoint


def _dataset_options(
    dataset: Dataset | str | Path | Iterable[Episode], config: ExperimentConfig, folder: Path
) -> dict[str, Any]:
    """Return the options that let a run read a dataset, which is written if it has to be."""
    if isinstance(dataset, (str, Path)):
        if config.dataset.name == "several" and not _is_dataset(dataset):
            # A folder of datasets, which only that format reads.
            return {"dataset.path": str(Path(dataset).expanduser().resolve())}
        dataset = Dataset.open(dataset)
    elif not isinstance(dataset, Dataset):
        dataset = Dataset.from_episodes(dataset)
    asked = list(dataset.asked_keys)
    if dataset.path is None:
        dataset = _kept(dataset, folder.parent / DATASETS)
    assert dataset.path is not None
    options: dict[str, Any] = {
        "dataset.name": dataset.format,
        "dataset.path": str(dataset.path.resolve()),
    }
    named, configured = asked, getattr(config.dataset, "obs_keys", ())
    if not asked and config.dataset.name == dataset.format:
        if configured or getattr(config.dataset, "derive", None):
            return options
    elif not asked and configured:
        named = _as_stored(config, dataset)
    sees_no_cameras = config.encoder.name == "state"
    if not named and (dataset.format == "zarr" or sees_no_cameras):
        contents = open_dataset(dataset.path)
        usable = [k for k in contents.stored if k != "action"]
        # What is broken is not passed over: reading it says where.
        usable = [k for k in usable if contents.stored[k].broken or not contents.stored[k].unusable]
        usable = [k for k in usable if k not in config.auxiliary.keys]
        named = [k for k in usable if not (sees_no_cameras and k in contents.cameras)]
        if unseen := [key for key in usable if key not in named]:
            warnings.warn(
                f"{dataset.path}: the cameras {', '.join(unseen)} are left out, because the "
                "encoder 'state' sees none; encoder.name=cameras does, as in own/cameras",
                stacklevel=3,
            )
    return {**options, "dataset.obs_keys": named} if named else options


def _is_dataset(path: str | Path) -> bool:
    try:
        detect_format(path)
    except InputError:
        return False
    return True


def _as_stored(config: ExperimentConfig, dataset: Dataset) -> list[str]:
    """Return what a dataset of another format calls the observations that a configuration names.

    LeRobot's names begin with what it is that is observed. None where it lacks one, which is said.
    """
    keys, rename = (getattr(config.dataset, name, None) for name in ("obs_keys", "rename"))
    assert dataset.path is not None
    stored = open_dataset(dataset.path).stored
    names = [(rename or {}).get(key, default_name(key)) for key in keys or ()]
    found = [stored_name(name, stored) for name in names]
    if missing := [name for name in found if name not in stored]:
        warnings.warn(
            f"{dataset.path}: has no {', '.join(missing)}, which the configuration observes: all "
            "that it has is observed; name others as dataset.obs_keys",
            stacklevel=4,
        )
        return []
    return found


def _kept(dataset: Dataset, folder: Path) -> Dataset:
    """Return a dataset on the disk with the episodes of one in memory; the same is kept once."""
    buffer = dataset.buffer
    name = re.sub(r"[^\w-]+", "-", buffer.source).strip("-")[:40] or "episodes"
    path = folder / f"{name}-{buffer.fingerprint()[:16]}.zarr"
    if not exists(path):
        write_zarr(dataset, path)
    return Dataset.open(path)
