"""What a checkpoint is made of, and how it is written; see `lfm_policy.policy.checkpoint`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from lfm_policy.checkpoint_folders import CONFIG_FILE, FORMAT, MODEL_FILE, NORMALIZER_FILE
from lfm_policy.config import ExperimentConfig, config_to_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.plugins import needed_plugins
from lfm_policy.policy.tensors import write_tensors
from lfm_policy.version import __version__
from lfm_runtime.disk.files import exists
from lfm_runtime.disk.stamped import read_stamped, write_stamped
from lfm_runtime.policy.spec import DataSpec

FORMAT_VERSION = 1
CARD_FILE = "README.md"


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

    The caller makes the folder appear as a whole (`lfm_runtime.disk.files.atomic_folder`).
    """
    files = {
        MODEL_FILE: write_tensors(folder / MODEL_FILE, model_state),
        NORMALIZER_FILE: write_tensors(folder / NORMALIZER_FILE, normalizer.state_tensors()),
    }
    options = config_to_dict(config)
    plugins = needed_plugins(options)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        **({"plugins": plugins} if plugins else {}),
        "config": options,
        "data": spec.to_dict(),
        "training": dict(training),
        "files": files,
    }
    write_stamped(folder / CONFIG_FILE, content)


def require_replaceable(folder: Path) -> None:
    """Check that there is nothing where a checkpoint is to be written, or only a checkpoint.

    Raises:
        InputError: there is something else, or something else beside a checkpoint's files.
    """
    if not exists(folder):
        return
    own = {CONFIG_FILE, MODEL_FILE, NORMALIZER_FILE, CARD_FILE}
    others = sorted({path.name for path in folder.iterdir()} - own) if folder.is_dir() else []
    if others or not exists(folder / CONFIG_FILE):
        found = f" (it holds {', '.join(others[:5])})" if others else ""
        raise InputError(
            f"{folder}: exists already and is no checkpoint alone{found}: choose another folder"
        )
    read_stamped(
        folder / CONFIG_FILE,
        format=FORMAT,
        version=FORMAT_VERSION,
        reader="lfm-policy",
        reader_version=__version__,
        copied="the checkpoint",
    )
