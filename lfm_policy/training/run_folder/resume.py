"""Which run may be continued by which options and data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lfm_policy.checkpoint_folders import LATEST_FILE
from lfm_policy.config import ExperimentConfig, config_to_dict, load_config
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import CheckpointHeader, read_header
from lfm_runtime.disk.files import is_file
from lfm_runtime.policy.spec import DataSpec

CONFIG_COPY = "config.yaml"

FREE_TO_CHANGE: tuple[str, ...] = (
    "dataset.path",
    "distill.recording",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.num_threads",
    "training.tracker",
    "training.parallel_processes",
    "push_forward.checkpoint_every",
    "eval.every",
    "eval.episodes",
    "eval.seed_start",
    "eval.nfe",
)
"""What may differ between the run that was interrupted and the one that continues it."""

EXTENSION = ("training.extended_from", "training.encoder_extended_from")
"""Filled in when a run goes on with more steps."""


def run_config(folder: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Return the options of the run in a folder.

    Args:
        folder: of the run.
        overrides: strings ``section.key=value``.

    Raises:
        InputError: there is no run, or an override is wrong.
    """
    if is_file(folder / CONFIG_COPY):
        return load_config(str(folder / CONFIG_COPY), overrides)
    run = folder.parent.parent
    inside = f"; this is a checkpoint of the run {run}" if is_file(run / CONFIG_COPY) else ""
    raise InputError(
        f"{folder}: there is no run to continue: expected a folder with {CONFIG_COPY}, such as "
        f"runs/<name>{inside}"
    )


def find_resumable(
    folder: Path, config: ExperimentConfig, *, resume: bool
) -> tuple[CheckpointHeader | None, ExperimentConfig]:
    """Return the newest checkpoint of a run folder, and the options with which it goes on.

    These are the given ones, in which its earlier passes are filled in. The checkpoint is None when
    the run has to start.

    Raises:
        InputError: the folder holds a run and ``resume`` is not set, or the run had other options,
            or the folder holds something else.
    """
    if not (folder / LATEST_FILE).exists():
        if _is_used(folder) and not (folder / CONFIG_COPY).exists():
            raise InputError(
                f"{folder}: exists already and holds no run; choose another folder with --output"
            )
        return None, config
    if not resume:
        raise already_begun(folder)
    header = read_header(folder)
    # As the run has resolved it: a size of frames that was left open is as in the checkpoint.
    config = replace(config, encoder=config.encoder.with_sizes(header.spec.obs_shapes))
    old, new, free = header.config.training, config.training, FREE_TO_CHANGE
    before, after = old.pass_ends[-1], new.pass_ends[-1]
    more = after[0] > before[0] or (new.encoder == "joint" and after[1] > before[1])
    if more and after[0] >= before[0] and after[1] >= before[1]:
        old = replace(
            old,
            total_steps=after[0],
            encoder_steps=after[1],
            extended_from=[*old.extended_from, before[0]],
            encoder_extended_from=[*old.encoder_extended_from, before[1]],
        )
    if not new.extended_from:  # options as they were written for the run know of no extension
        free = (*free, *EXTENSION)
    init = config.init
    if not init.source:  # nor of the policy that it started from, if that was no option of theirs
        init = replace(init, source=header.config.init.source)
        config = replace(config, init=init)
    env = header.config.env
    if config.distill.student_config and not env.options:
        # Students with a configuration of their own once did not fill in what their data say of it.
        steps = env.max_episode_steps if env.id else config.env.max_episode_steps
        env = replace(
            env,
            id=env.id or config.env.id,
            max_episode_steps=steps,
            options=config.env.options,
        )
    was = replace(header.config, training=old, env=env)
    if changed := changed_options(was, config, free):
        raise InputError(
            f"{folder}: cannot resume with other options: "
            + "; ".join(f"{key} was {old!r}, is now {new!r}" for key, old, new in changed[:5])
        )
    earlier = {name.partition(".")[2]: getattr(old, name.partition(".")[2]) for name in EXTENSION}
    return header, replace(config, training=replace(new, **earlier))


def is_finished(header: CheckpointHeader | None, config: ExperimentConfig) -> bool:
    """Whether a checkpoint is all that its run was for, with ``config`` of `find_resumable`."""
    if header is None or not header.complete:
        return False
    return header.config.training.pass_ends == config.training.pass_ends


def already_begun(folder: Path) -> InputError:
    """Return the error for a folder with a run that nobody asked to continue."""
    return InputError(
        f"{folder}: there is a run already; continue it with --resume, or choose another folder "
        "with --output"
    )


def changed_options(
    old: ExperimentConfig, new: ExperimentConfig, free: Sequence[str] = FREE_TO_CHANGE
) -> list[tuple[str, object, object]]:
    """Return (key, old, new) of every option that differs and matters for the weights."""
    before, after = _flat(config_to_dict(old)), _flat(config_to_dict(new))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        (key, before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key) and key not in free
    ]


def check_same_data(header: CheckpointHeader, spec: DataSpec) -> None:
    """Check that a checkpoint was trained on these demonstrations.

    Raises:
        InputError: they differ.
    """
    if header.spec.fingerprint != spec.fingerprint:
        raise InputError(
            f"{header.folder}: was trained on other demonstrations (fingerprint "
            f"{header.spec.fingerprint[:12]}..., these have {spec.fingerprint[:12]}...); give the "
            "same dataset, or start anew in another folder"
        )
    if header.spec.tasks != spec.tasks:
        raise InputError(
            f"{header.folder}: was trained on the tasks {', '.join(header.spec.tasks) or '-'}, now "
            f"they are {', '.join(spec.tasks) or '-'}: give the same dataset.tasks"
        )


def _is_used(folder: Path) -> bool:
    if not folder.is_dir():
        return folder.exists()
    # A run that was killed while it wrote its first file left one whose name begins with a dot.
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _flat(options: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in options.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
