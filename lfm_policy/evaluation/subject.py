"""What can be evaluated: policies of checkpoints, and exported ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lfm_policy.config.flow import Evaluations, StepTimes
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.policy import ChunkResult, DataSpec


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
    def nfe(self) -> int | None:
        """Network evaluations per chunk; None for an adaptive solver."""

    @property
    def nfe_per_block(self) -> tuple[int, ...] | None:
        """Network evaluations of each block, index 0 = data side; None for an adaptive solver."""

    @property
    def block_times(self) -> tuple[tuple[float, ...], ...]:
        """Times at which steps of each block end, index 0 = data side; () where they are equal."""

    @property
    def solver(self) -> str:
        """Name of the solver of all blocks."""

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise that sampling starts from."""

    @property
    def renoise(self) -> float:
        """Share of each block's noise that chunks are given."""

    @property
    def guidance(self) -> float:
        """Weight of the observation; 1: no guidance."""

    def set_sampler(
        self,
        *,
        solver: str | None = None,
        nfe: Evaluations | None = None,
        times: StepTimes | None = None,
        noise_scale: float | None = None,
        renoise: float | None = None,
        guidance: float | None = None,
    ) -> None:
        """Choose another sampler for all later chunks; what is left out is as configured."""

    def sample(self, batch: Mapping[str, Any], *, noise: Tensor | None = None) -> ChunkResult:
        """Sample whole chunks."""

    def fake_batch(self, n_rows: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
        """Return random valid histories of observations."""

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, and in total."""
