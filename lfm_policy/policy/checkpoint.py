"""The checkpoint folder: ``config.json``, ``model.safetensors``, ``normalizer.safetensors``.

``config.json`` holds the format version, the resolved configuration, the shapes of the data and
the SHA-256 of the two tensor files and of itself, so that a damaged file is noticed and never
becomes a silently different policy. Nothing in a checkpoint is ever unpickled or imported, and
no file name in it is followed. Folders of a run add ``train_state/``, needed only for resuming.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lfm_policy.config import ExperimentConfig, config_from_dict, config_to_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.files import write_json
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.policy import Policy
from lfm_policy.policy.spec import DataSpec
from lfm_policy.policy.tensors import read_tensors, require_file, sha256_of, write_tensors
from lfm_policy.version import __version__

FORMAT = "lfm-policy"
FORMAT_VERSION = 1

CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
NORMALIZER_FILE = "normalizer.safetensors"
TRAIN_STATE = "train_state"
LATEST_FILE = "latest"
CHECKPOINTS = "checkpoints"

MAXIMUM_CONFIG_BYTES = 4_000_000
MAXIMUM_PARAMETERS = 400_000_000
"""1.6 GB of float32: nothing larger is built from a file."""


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
    def complete(self) -> bool:
        """Whether all gradient steps of all blocks were done."""
        return bool(self.training.get("complete", False))


def write_checkpoint(
    folder: Path,
    *,
    config: ExperimentConfig,
    spec: DataSpec,
    model_state: Mapping[str, Tensor],
    normalizer: Normalizer,
    training: Mapping[str, Any],
) -> None:
    """Write the three files of a checkpoint into an existing folder.

    The caller makes the folder appear as a whole (`lfm_policy.files.atomic_folder`).
    """
    files = {
        MODEL_FILE: write_tensors(folder / MODEL_FILE, model_state),
        NORMALIZER_FILE: write_tensors(folder / NORMALIZER_FILE, normalizer.state_tensors()),
    }
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "config": config_to_dict(config),
        "data": spec.to_dict(),
        "training": dict(training),
        "files": files,
    }
    write_json(folder / CONFIG_FILE, {**content, "sha256": content_digest(content)})


def content_digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON content, independent of spacing and order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint folder meant by a path: itself, or the newest one of a run folder.

    Raises:
        InputError: there is no checkpoint; the message says what was looked for.
    """
    folder = Path(path)
    if (folder / CONFIG_FILE).exists():
        return folder
    pointer = folder / LATEST_FILE
    if pointer.is_file():
        # Only the last part of the name is used, so that a pointer cannot lead out of the run.
        name = Path(pointer.read_text(encoding="utf-8", errors="replace").strip()[:200]).name
        if name and (folder / CHECKPOINTS / name / CONFIG_FILE).exists():
            return folder / CHECKPOINTS / name
    if not folder.exists():
        raise InputError(f"{folder}: no such checkpoint or run folder")
    raise InputError(
        f"{folder}: not a checkpoint: expected '{CONFIG_FILE}' in it (or '{LATEST_FILE}', as in a "
        "run folder that has written a checkpoint)"
    )


def read_header(path: str | Path) -> CheckpointHeader:
    """Read and check ``config.json`` of a checkpoint, without the weights.

    Raises:
        InputError: not a checkpoint, damaged, written by a newer version, or with options that
            this version does not accept.
    """
    folder = find_checkpoint(path)
    file = folder / CONFIG_FILE
    content = _read_json_object(file)
    if content.get("format") != FORMAT:
        raise InputError(
            f"{file}: format: found {str(content.get('format'))[:100]!r}, expected '{FORMAT}'"
        )
    version = content.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f"{file}: format_version: found {str(version)[:100]!r}, expected a number")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{file}: format_version is {version}, this version of lfm-policy ({__version__}) "
            f"reads up to {FORMAT_VERSION}: upgrade lfm-policy"
        )
    stated = content.pop("sha256", None)
    try:
        digest = content_digest(content)
    except ValueError:
        raise InputError(f"{file}: contains NaN or infinity") from None
    if stated != digest:
        raise InputError(
            f"{file}: its content does not match its checksum: it is damaged or was edited; copy "
            "the checkpoint again"
        )
    options, training, files = (content.get(key) for key in ("config", "training", "files"))
    for key, value in (("config", options), ("training", training), ("files", files)):
        if not isinstance(value, dict):
            raise InputError(f"{file}: {key}: expected an object, found {type(value).__name__}")
    assert isinstance(options, dict) and isinstance(training, dict) and isinstance(files, dict)
    return CheckpointHeader(
        folder=folder,
        config=config_from_dict(options, str(file)),
        spec=DataSpec.from_dict(content.get("data"), str(file)),
        training=training,
        files={str(key): str(value) for key, value in files.items()},
        sha256=digest,
        package_version=str(content.get("package_version", ""))[:100],
    )


def read_model_state(header: CheckpointHeader) -> dict[str, Tensor]:
    """Read the weights of a checkpoint, checked against its configuration and checksum.

    Raises:
        InputError: damaged, missing or unexpected tensors.
    """
    # Shapes come from a model without memory, so that a hostile size costs nothing.
    try:
        with torch.device("meta"):
            skeleton = PolicyModel(header.config, header.spec)
    except InputError as error:
        raise InputError(f"{header.folder / CONFIG_FILE}: {error}") from None
    except (RuntimeError, OverflowError, TypeError, ValueError, MemoryError) as error:
        reason = str(error).splitlines()[0][:300]
        raise InputError(
            f"{header.folder / CONFIG_FILE}: the networks it describes cannot be built: {reason}"
        ) from None
    state = skeleton.state_dict()
    n_parameters = sum(tensor.numel() for tensor in state.values())
    if n_parameters > MAXIMUM_PARAMETERS:
        raise InputError(
            f"{header.folder / CONFIG_FILE}: describes {n_parameters:,} parameters, at most "
            f"{MAXIMUM_PARAMETERS:,} are loaded"
        )
    expected = {key: (tuple(value.shape), value.dtype) for key, value in state.items()}
    _check_digest(header, MODEL_FILE)
    return read_tensors(header.folder / MODEL_FILE, expected)


def read_normalizer(header: CheckpointHeader) -> Normalizer:
    """Read the normaliser of a checkpoint, checked against the shapes of the data.

    Raises:
        InputError: damaged, or statistics of an observation or of the action are missing.
    """
    path = header.folder / NORMALIZER_FILE
    _check_digest(header, NORMALIZER_FILE)
    require_file(path)
    if path.stat().st_size > MAXIMUM_CONFIG_BYTES * 64:
        raise InputError(f"{path}: has {path.stat().st_size:,} bytes, far more than statistics")
    normalizer = Normalizer.from_tensors(read_tensors(path), source=str(path))
    shapes = {**header.spec.obs_shapes, "action": (header.spec.action_dim,)}
    for key, shape in shapes.items():
        try:
            found = tuple(normalizer[key].scale.shape)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if found != tuple(shape):
            raise InputError(
                f"{path}: '{key}' has statistics of shape {found}, expected {tuple(shape)}"
            )
    return normalizer


def load_policy(path: str | Path, device: str | torch.device = "cpu") -> Policy:
    """Load a trained policy.

    Args:
        path: a checkpoint folder, or a run folder (its newest checkpoint is taken).
        device: where the networks run.

    Raises:
        InputError: there is no checkpoint, it is damaged, does not match its configuration, was
            written by a newer version, or its training has not reached the last block.
    """
    header = read_header(path)
    require_sampleable(header)
    state = read_model_state(header)
    normalizer = read_normalizer(header)
    model = PolicyModel(header.config, header.spec)
    model.load_state_dict(state)
    return Policy(
        header.config,
        header.spec,
        model,
        normalizer,
        device=device,
        info={"checkpoint": str(header.folder), "sha256": header.sha256, **header.training},
    )


def require_sampleable(header: CheckpointHeader) -> None:
    """Check that every block has been trained, at least in part.

    Raises:
        InputError: the chain does not reach the noise yet.
    """
    done = header.training.get("block_steps", [])
    n_blocks = header.config.flow.n_blocks
    if not isinstance(done, list) or len(done) != n_blocks:
        raise InputError(
            f"{header.folder / CONFIG_FILE}: training.block_steps: found {str(done)[:100]}, "
            f"expected the steps done of each of {n_blocks} blocks"
        )
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


def _read_json_object(path: Path) -> dict[str, Any]:
    require_file(path)
    size = path.stat().st_size
    if size > MAXIMUM_CONFIG_BYTES:
        raise InputError(f"{path}: has {size:,} bytes, expected at most {MAXIMUM_CONFIG_BYTES:,}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
