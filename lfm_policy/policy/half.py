"""Copies of checkpoints with weights in half precision, half as large."""

from __future__ import annotations

from pathlib import Path

import torch

from lfm_policy.config import config_from_dict, config_to_dict
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import (
    MODEL_FILE,
    read_header,
    read_model_state,
    read_normalizer,
    require_sampleable,
    write_checkpoint,
)
from lfm_runtime.disk.files import atomic_folder


def half_precision_copy(
    source: str | Path, folder: Path, *, dataset_path: str | None = None
) -> Path:
    """Write a copy of a checkpoint whose weights are float16.

    Loading widens them to float32 again, so the copy computes as the original does, with weights
    rounded to 11 bits.

    Args:
        source: checkpoint or run folder.
        folder: the copy; it must not exist.
        dataset_path: what the copy says of where the demonstrations lie; None: as the original.

    Raises:
        InputError: no checkpoint, a damaged one, or a weight beyond float16's range.
        FileExistsError: ``folder`` exists.
    """
    header = read_header(source)
    require_sampleable(header)
    state = {name: tensor.to(torch.float16) for name, tensor in read_model_state(header).items()}
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{header.folder / MODEL_FILE}: tensor '{name}' has numbers beyond 65504, which "
                "half precision cannot hold"
            )
    config = header.config
    if dataset_path is not None:
        options = config_to_dict(config)
        options["dataset"]["path"] = dataset_path
        config = config_from_dict(options, str(folder))
    with atomic_folder(folder) as temporary:
        write_checkpoint(
            temporary,
            config=config,
            spec=header.spec,
            model_state=state,
            normalizer=read_normalizer(header),
            training=header.training,
        )
    return folder
