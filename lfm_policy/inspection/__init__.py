"""What a dataset, a checkpoint or a run holds, in words and pictures."""

from __future__ import annotations

from lfm_policy.inspection.checkpoint import (
    CheckpointInspection,
    inspect_checkpoint,
    is_checkpoint,
)
from lfm_policy.inspection.dataset import DatasetInspection, inspect_dataset

__all__ = [
    "CheckpointInspection",
    "DatasetInspection",
    "inspect_checkpoint",
    "inspect_dataset",
    "is_checkpoint",
]
