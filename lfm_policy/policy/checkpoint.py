"""The checkpoint folder: ``config.json``, ``model.safetensors``, ``normalizer.safetensors``.

``config.json`` holds the format version, the resolved configuration, the shapes of the data and
the SHA-256 of the two tensor files and of itself, so that a damaged file is noticed and never
becomes a silently different policy. Nothing in a checkpoint is ever unpickled or imported (what
is needed of plugins is named, for a message), and no file name in it is followed. Folders of a
run add ``train_state/``, needed only for resuming.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lfm_policy.checkpoint_folders import (
    CONFIG_FILE,
    FORMAT,
    MODEL_FILE,
    NORMALIZER_FILE,
    find_checkpoint,
    is_of_lerobot,
)
from lfm_policy.config import ExperimentConfig, stored_config
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.plugins import check_plugins
from lfm_policy.policy.checkpoint_writer import FORMAT_VERSION
from lfm_policy.policy.checkpoint_writer import write_checkpoint as write_checkpoint
from lfm_policy.policy.model import tensor_shapes
from lfm_policy.policy.tensors import (
    MAXIMUM_HEADER_BYTES,
    check_tensors,
    fill_tensors,
    read_tensors,
)
from lfm_policy.version import __version__
from lfm_runtime.disk.input_files import require_file, sha256_of
from lfm_runtime.disk.stamped import read_stamped
from lfm_runtime.policy.spec import DataSpec, is_image

TRAIN_STATE = "train_state"
IMPORTED = "imported"
"""Of a checkpoint's training: which framework has trained it instead."""
ALSO_TRAINED_ON = "also_trained_on"
"""Under which `CheckpointHeader.also_trained_on` stands in what is said of the training."""

MAXIMUM_PARAMETERS = 400_000_000
"""1.6 GB of float32: nothing larger is built from a file."""
MAXIMUM_TENSORS = 20_000
MAXIMUM_NORMALIZER_BYTES = 256_000_000


@dataclass(frozen=True)
class CheckpointHeader:
    """What ``config.json`` says, checked.

    Attributes:
        folder: the checkpoint.
        config: resolved configuration of the run.
        spec: shapes of the data.
        training: progress and history of the training, see `lfm_policy.training`.
        sha256: digest of ``config.json``'s content, the identity of the checkpoint.
    """

    folder: Path
    config: ExperimentConfig
    spec: DataSpec
    training: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    package_version: str = ""

    @property
    def imported(self) -> str:
        """The framework that has trained it; empty: this one."""
        return str(dict(self.training.get(IMPORTED) or {}).get("from", ""))[:100]

    @property
    def complete(self) -> bool:
        """Whether all gradient steps of all blocks were done."""
        return bool(self.training.get("complete", False))

    @property
    def only_teacher_saw(self) -> tuple[str, ...]:
        """Observations that only the teacher of a student saw, such as a simulator's state."""
        return tuple(k for k in self.config.distill.teacher_obs if k not in self.spec.obs_shapes)

    @property
    def also_trained_on(self) -> list[str]:
        """What the policy does not see, and its encoder or its teacher's learned to tell."""
        return list(self.training.get(ALSO_TRAINED_ON, []))


def read_header(path: str | Path) -> CheckpointHeader:
    """Read and check ``config.json`` of a checkpoint, without the weights.

    Raises:
        InputError: not a checkpoint, damaged, written by a newer version, or with options that
            this version does not accept.
    """
    folder = find_checkpoint(path)
    file = folder / CONFIG_FILE
    try:
        content, digest = read_stamped(
            file,
            format=FORMAT,
            version=FORMAT_VERSION,
            reader="lfm-policy",
            reader_version=__version__,
            copied="the checkpoint",
        )
    except InputError:
        if is_of_lerobot(folder):
            raise InputError(
                f"{folder}: is a policy of LeRobot: make a checkpoint of it with "
                f"'lfm-policy import {folder} my_policy'"
            ) from None
        raise
    options, training, files = (content.get(key) for key in ("config", "training", "files"))
    for key, value in (("config", options), ("training", training), ("files", files)):
        if not isinstance(value, dict):
            raise InputError(f"{file}: {key}: expected an object, found {type(value).__name__}")
    assert isinstance(options, dict) and isinstance(training, dict) and isinstance(files, dict)
    check_plugins(content.get("plugins", {}), str(file))
    config = stored_config(options, str(file))
    _check_training(training, config.flow.n_blocks, str(file))
    spec = DataSpec.from_dict(content.get("data"), str(file))
    # Sizes are stored since large images are resized unless asked for; before, they were not.
    encoder = config.encoder.with_sizes(spec.obs_shapes, resized=False)
    if encoder != config.encoder:
        config = replace(config, encoder=encoder)
    return CheckpointHeader(
        folder=folder,
        config=config,
        spec=spec,
        training=training,
        files={str(key): str(value) for key, value in files.items()},
        sha256=digest,
        package_version=str(content.get("package_version", ""))[:100],
    )


def _check_training(training: dict[str, Any], n_blocks: int, label: str) -> None:
    """Check what a checkpoint says about its training; keys that are not known are left alone.

    Raises:
        InputError: a key that readers rely on is missing or has another type.
    """
    parts = {"encoder", "total", *(f"block {n}" for n in range(1, n_blocks + 1))}

    def each_block(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
        return lambda value: (
            isinstance(value, list) and len(value) == n_blocks and all(map(holds, value))
        )

    rules: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "complete": ("true or false", lambda value: isinstance(value, bool)),
        "steps": ("a number of steps", _is_count),
        "train_seconds": ("seconds", _is_number),
        "push_seconds": ("seconds", _is_number),
        "block_steps": (f"the steps done of each of {n_blocks} block(s)", each_block(_is_count)),
        "blocks": (f"a record of each of {n_blocks} block(s)", each_block(_is_record)),
        "parameters": (
            "numbers of parameters by part",
            lambda value: (
                isinstance(value, dict)
                and value.keys() <= parts
                and all(map(_is_count, value.values()))
            ),
        ),
        ALSO_TRAINED_ON: (
            "names",
            lambda value: (
                value is None
                or (isinstance(value, list) and all(isinstance(name, str) for name in value))
            ),
        ),
    }
    imported = training.get(IMPORTED)
    if imported is not None and not isinstance(imported, dict):
        raise InputError(f"{label}: training.{IMPORTED}: expected an object")
    for key, (expected, holds) in rules.items():
        if not holds(training.get(key)):
            found = repr(training.get(key))[:200]
            raise InputError(f"{label}: training.{key}: found {found}, expected {expected}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_count(value.get("steps"))
        and all(_is_number(value.get(key)) for key in ("train_seconds", "push_seconds"))
        and all(
            value.get(key) is None or _is_number(value[key]) for key in ("loss", "validation_loss")
        )
    )


def read_model_state(header: CheckpointHeader) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, checked against its configuration and checksum.

    Raises:
        InputError: damaged, missing or unexpected tensors, or numbers that are not finite.
    """
    shapes = check_model_file(header)
    state = {name: torch.empty(shape) for name, shape in shapes.items()}
    fill_tensors(header.folder / MODEL_FILE, state)
    return state


def check_model_file(header: CheckpointHeader) -> dict[str, tuple[int, ...]]:
    """Check that ``model.safetensors`` holds what the configuration describes; return its shapes.

    Costs little memory, so that networks are made only when the file really holds their numbers.

    Raises:
        InputError: it does not, or is damaged.
    """
    try:
        limits = {"max_tensors": MAXIMUM_TENSORS, "max_numbers": MAXIMUM_PARAMETERS}
        shapes = tensor_shapes(header.config, header.spec, **limits)
    except InputError as error:
        raise InputError(f"{header.folder / CONFIG_FILE}: {error}") from None
    n_bytes = 4 * sum(math.prod(shape) for shape in shapes.values())
    # Before the checksum, which would take hours for the size that a file can pretend to have.
    path = header.folder / MODEL_FILE
    require_file(path, maximum_bytes=n_bytes + MAXIMUM_HEADER_BYTES)
    _check_digest(header, MODEL_FILE)
    check_tensors(path, shapes)
    return shapes


def read_normalizer(header: CheckpointHeader) -> Normalizer:
    """Read the normaliser of a checkpoint, checked against the shapes of the data.

    Raises:
        InputError: damaged, or statistics of an observation or of the action are missing.
    """
    path = header.folder / NORMALIZER_FILE
    require_file(path, maximum_bytes=MAXIMUM_NORMALIZER_BYTES)
    _check_digest(header, NORMALIZER_FILE)
    normalizer = Normalizer.from_tensors(read_tensors(path), source=str(path))
    shapes = {**header.spec.obs_shapes, "action": (header.spec.action_dim,)}
    for key, shape in shapes.items():
        if is_image(shape):
            continue  # images are scaled by the encoder
        try:
            found = tuple(normalizer[key].scale.shape)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if found != tuple(shape):
            raise InputError(
                f"{path}: '{key}' has statistics of shape {found}, expected {tuple(shape)}"
            )
        if key in header.spec.float64_keys and normalizer[key].origin is None:
            raise InputError(
                f"{path}: '{key}/origin' is missing, which {CONFIG_FILE} asks for: the file "
                "belongs to another checkpoint"
            )
    return normalizer


def require_sampleable(header: CheckpointHeader) -> None:
    """Check that every block has been trained, at least in part.

    Raises:
        InputError: the chain does not reach the noise yet.
    """
    if header.config.training.encoder == "joint" and header.training.get("encoder_steps", 0):
        return  # with the encoder all blocks have learnt
    if header.config.init.gives_blocks or header.training.get(IMPORTED):
        return  # all blocks had learnt before
    done = header.training["block_steps"]
    n_blocks = header.config.flow.n_blocks
    untrained = [n for n, steps in enumerate(done, start=1) if steps == 0]
    if untrained:
        raise InputError(
            f"{header.folder}: training has not reached block {untrained[0]} of {n_blocks} yet, so "
            "nothing can be sampled; continue it with 'lfm-policy train ... --resume'"
        )


def _check_digest(header: CheckpointHeader, name: str) -> None:
    path = header.folder / name
    if sha256_of(path) != header.files.get(name):
        raise InputError(
            f"{path}: its content does not match the checksum in {CONFIG_FILE}: it is damaged or "
            "belongs to another checkpoint; copy the whole folder again"
        )
