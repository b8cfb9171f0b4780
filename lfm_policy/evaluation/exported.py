"""Exported policies in rollouts, so that they are measured as their checkpoints are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from lfm_policy.config import config_from_dict
from lfm_policy.config.sampler import SamplerChanges, SamplerConfig, plain_numbers
from lfm_policy.errors import InputError
from lfm_policy.policy import ChunkResult
from lfm_policy.policy.checkpoint import ALSO_TRAINED_ON
from lfm_runtime.export.onnx_policy import OnnxPolicy

TRAINING_KEYS = {"steps", "train_seconds", "push_seconds"}
"""What reports say of a training, all or nothing."""


class ExportedPolicy:
    """An exported policy as an `EvaluatedPolicy`; its sampler cannot be changed any more."""

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        """Open an exported folder.

        Raises:
            InputError: as `OnnxPolicy`; or it names an environment that cannot be.
        """
        self.policy = OnnxPolicy(folder, threads=threads)
        described = self.policy.description
        label = str(folder)
        self.spec = described.spec
        self.n_obs_steps = described.n_obs_steps
        self.chunk_shape = self.policy.chunk_shape
        self.config = config_from_dict(
            {
                "name": described.name,
                "policy": {
                    "n_obs_steps": described.n_obs_steps,
                    "horizon": described.horizon,
                    "n_action_steps": described.n_action_steps,
                    "max_prefix": described.max_prefix,
                },
                "env": dict(described.env),
            },
            label,
        )
        self.device = torch.device("cpu")
        training = described.training
        self.info: dict[str, Any] = {
            **(training if training.keys() >= TRAINING_KEYS else {}),
            **({ALSO_TRAINED_ON: list(also)} if (also := described.also_trained_on) else {}),
            "checkpoint": label,
            "sha256": described.checkpoint_sha256,
            "precision": described.precision,
        }
        self.sampler = described.sampler

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each chunk; may be changed."""
        return self.policy.n_action_steps

    @n_action_steps.setter
    def n_action_steps(self, steps: int) -> None:
        self.policy.n_action_steps = steps

    def set_sampler(self, **changes: Unpack[SamplerChanges]) -> None:
        """Check that the sampler is the one of the export.

        Raises:
            InputError: it is another one.
        """
        SamplerConfig().changed(**changes)
        given = {key: plain_numbers(value) for key, value in changes.items() if value is not None}
        exported, per_block = self.sampler.to_dict(), isinstance(given.get("nfe"), list)
        exported["nfe"] = exported["nfe_per_block"] if per_block else exported["nfe"]
        exported["times"] = exported["block_times"]
        if "times" in given and not any(given["times"]):
            given["times"] = [[] for _ in exported["times"]]
        for key, asked in given.items():
            if asked != (has := exported[key]):
                raise InputError(
                    f"{self.info['checkpoint']}: {key} is {asked}, but it was exported with {has}, "
                    "which is part of the graph: export the checkpoint again"
                )

    def sample(self, batch: Mapping[str, Any], *, noise: Tensor | None = None) -> ChunkResult:
        """Sample whole chunks; see `lfm_policy.policy.Policy.sample`."""
        arrays = {key: np.asarray(value) for key, value in batch.items()}
        result = self.policy.sample(arrays, noise=None if noise is None else noise.numpy())
        return ChunkResult(torch.from_numpy(result.chunk), result.nfe)

    def training_range(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest values in training; see `OnnxPolicy.training_range`."""
        return self.policy.training_range(key)

    def fake_batch(self, n_rows: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
        """Return random valid histories of observations."""
        return self.policy.fake_batch(n_rows, seed)

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, and in total."""
        return dict(self.policy.description.parameters)
