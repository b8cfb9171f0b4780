"""The policy, its model and its checkpoint."""

from __future__ import annotations

from lfm_policy.checkpoint_folders import find_checkpoint
from lfm_policy.policy.checkpoint import (
    CheckpointHeader,
    read_header,
    write_checkpoint,
)
from lfm_policy.policy.loading import load_policy
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.pipeline import ChunkResult, Pipeline, plan_sampler
from lfm_policy.policy.policy import Policy, chunk_noise
from lfm_runtime.policy.spec import DataSpec

__all__ = [
    "CheckpointHeader",
    "ChunkResult",
    "DataSpec",
    "Pipeline",
    "Policy",
    "PolicyModel",
    "chunk_noise",
    "find_checkpoint",
    "load_policy",
    "plan_sampler",
    "read_header",
    "write_checkpoint",
]
