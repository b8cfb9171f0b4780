"""Which run may be continued by which options and data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from lfm_policy.checkpoint_folders import LATEST_FILE
from lfm_policy.config import ExperimentConfig, config_to_dict
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import CheckpointHeader, read_header
from lfm_runtime.policy.spec import DataSpec

CONFIG_COPY = "config.yaml"

FREE_TO_CHANGE = (
    "dataset.path",
    "distill.recording",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.num_threads",
    "training.parallel_processes",
    "push_forward.checkpoint_every",
)
"""What may differ between the run that was interrupted and the one that continues it."""


def find_resumable(
    folder: Path, config: ExperimentConfig, *, resume: bool
) -> CheckpointHeader | None:
    """Return the newest checkpoint of a run folder; None when the run has to start.

    Raises:
        InputError: the folder holds a run and ``resume`` is not set, or the run had other options,
            or the folder holds something else.
    """
    if not (folder / LATEST_FILE).exists():
        if _is_used(folder) and not (folder / CONFIG_COPY).exists():
            raise InputError(
                f"{folder}: exists already and holds no run; choose another folder with --output"
            )
        return None
    if not resume:
        raise already_begun(folder)
    header = read_header(folder)
    encoder = config.encoder.with_sizes(header.spec.obs_shapes)
    config = dataclasses.replace(config, encoder=encoder)
    if changed := changed_options(header.config, config):
        raise InputError(
            f"{folder}: cannot resume with other options: "
            + "; ".join(f"{key} was {old!r}, is now {new!r}" for key, old, new in changed[:5])
        )
    return header


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
