"""The policy, its model and its checkpoint."""

from __future__ import annotations

from lfm_policy.checkpoint_folders import find_checkpoint
from lfm_policy.policy.checkpoint import (
    CheckpointHeader,
    load_policy,
    read_header,
    write_checkpoint,
)
from lfm_policy.policy.half import half_precision_copy
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.noise import chunk_noise
from lfm_policy.policy.policy import ChunkResult, Policy
from lfm_policy.policy.sampler import plan_sampler
from lfm_runtime.policy.spec import DataSpec

__all__ = [
    "CheckpointHeader",
    "ChunkResult",
    "DataSpec",
    "Policy",
    "PolicyModel",
    "chunk_noise",
    "find_checkpoint",
    "half_precision_copy",
    "load_policy",
    "plan_sampler",
    "read_header",
    "write_checkpoint",
]
