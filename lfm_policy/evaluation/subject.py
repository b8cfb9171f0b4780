"""What can be evaluated: policies of checkpoints, and exported ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Unpack

import numpy as np
import torch
from torch import Tensor

from lfm_policy.config.sampler import SamplerChanges
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.policy import ChunkResult, DataSpec
from lfm_runtime.policy.sampler import Sampler


class EvaluatedPolicy(Protocol):
    """What rollouts, latencies and reports need of a policy; see `lfm_policy.policy.Policy`."""

    spec: DataSpec
    n_obs_steps: int
    config: ExperimentConfig
    device: torch.device
    info: dict[str, Any]

    @property
    def n_action_steps(self) -> int:
        """Actions executed of each chunk."""

    @n_action_steps.setter
    def n_action_steps(self, steps: int) -> None: ...

    @property
    def chunk_shape(self) -> tuple[int, int]:
        """Shape of one chunk, (horizon, action_dim)."""

    @property
    def sampler(self) -> Sampler:
        """How chunks are sampled."""

    def set_sampler(self, **changes: Unpack[SamplerChanges]) -> None:
        """Choose another sampler for all later chunks; what is left out is as configured."""

    def sample(self, batch: Mapping[str, Any], *, noise: Tensor | None = None) -> ChunkResult:
        """Sample whole chunks."""

    def fake_batch(self, n_rows: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
        """Return random valid histories of observations."""

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, and in total."""
